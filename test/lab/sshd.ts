/** A real OpenSSH sshd on a host of the laboratory, configured as Debian ships it, with host keys of its own. */

import { existsSync, readFileSync } from "node:fs";
import { WaltError } from "../../src/errors.ts";
import type { Host } from "./host.ts";
import type { LabProcess } from "./process.ts";

const SSHD = "/usr/sbin/sshd";

/** The command line of sshd, in the foreground and with its log on standard error. */
export const SSHD_COMMAND: readonly string[] = [SSHD, "-D", "-e"];

/** Debian's sshd_config(5) without its comments; `before` goes first, because the first value of a keyword counts. */
function configuration(port: number, before: string): string {
  return `${before}
Port ${port}
Include /etc/ssh/sshd_config.d/*.conf
KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
`;
}

export interface SshdOptions {
  /** 22 unless told. */
  port?: number;
  /** Lines of sshd_config that take precedence over Debian's. */
  extraConfig?: string;
  /** For a suite that fails on purpose again and again: OpenSSH from 9.8 on shuts such an address out for a while. */
  patient?: boolean;
}

export interface Sshd {
  readonly process: LabProcess;
  /** Public host keys, `ssh-ed25519 AAAA…`, without comment. */
  readonly hostKeys: readonly string[];
  /** End it with its sessions and forwardings: SIGTERM unless told, SIGKILL for a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Start sshd and wait until it listens. Host keys are made the first time and stay when it is started again.
 * @throws WaltError when it is not installed, Error with its output when it does not listen.
 */
export async function startSshd(host: Host, options: SshdOptions = {}): Promise<Sshd> {
  if (!existsSync(SSHD)) {
    throw new WaltError(`${SSHD} does not exist`, { hint: "apt-get install openssh-server" });
  }
  const configure = (extra: string): void =>
    host.writeFile(
      "/etc/ssh/sshd_config",
      configuration(options.port ?? 22, `${options.extraConfig ?? ""}\n${extra}`),
    );
  configure("");
  await host.must(["sh", "-c", "mkdir -p /etc/ssh/sshd_config.d && mkdir -p -m 755 /run/sshd"]);
  if (!existsSync(host.path("/etc/ssh/ssh_host_ed25519_key"))) {
    for (const type of ["ed25519", "ecdsa"]) {
      await host.must(["ssh-keygen", "-q", "-t", type, "-N", "", "-f", `/etc/ssh/ssh_host_${type}_key`]);
    }
  }
  if (options.patient && /^persourcepenalties/m.test(await host.must([SSHD, "-T"])))
    configure("PerSourcePenalties no");
  const hostKeys = ["ed25519", "ecdsa"].map((type) =>
    readFileSync(host.path(`/etc/ssh/ssh_host_${type}_key.pub`), "utf8")
      .split(" ")
      .slice(0, 2)
      .join(" "),
  );
  const process = host.spawn(SSHD_COMMAND);
  await process.waitFor(/Server listening on 0\.0\.0\.0 port/);
  return {
    process,
    hostKeys,
    stop: async (signal = "SIGTERM") => {
      await process.stop(signal, { tree: true });
    },
  };
}
