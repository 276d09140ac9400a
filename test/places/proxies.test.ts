/** Proxies of all kinds: the set-up script proves a login, or says in sshd's own words why there is none. */

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { markedKeys, type ProxyScriptOptions, proxySetupScript } from "../../src/proxy/script.ts";
import { fingerprint, generateKey } from "../../src/ssh/keys/ed25519.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";

const ca = generateKey("ca");
const options: ProxyScriptOptions = {
  cas: [ca.publicKey],
  enrolments: [generateKey("enrolment").publicKey],
  mark: fingerprint(ca.publicKey),
  revoked: [],
  next: { host: "127.0.0.1", port: 22 }, // the proxy's own sshd: a server that greets as one of SSH
  serverCaFile: "/nonesuch",
  version: "1",
  written: new Date(),
};
const KEYS = "/home/walt-vpn/.ssh/authorized_keys";
/** ms for a test: the script starts many programs, and logs in several times. */
const PATIENCE = 120_000;

describeWith([LAB, { programs: ["sshd", "ssh", "useradd"] }], "a proxy", () => {
  let lab: Lab;
  let host: Host;
  /** Programs that take the place of the machine's. */
  const program = (name: string, text: string) =>
    host.writeFile(`/root/bin/${name}`, `#!/bin/sh\n${text}\n`, 0o755);
  /** Hide a program of the machine. */
  const without = (path: string) => host.must(["mount", "--bind", "/dev/null", path]);
  const again = (path: string) => host.must(["umount", path]);
  const keys = () => host.must(["cat", KEYS]);
  async function setup(more: Partial<ProxyScriptOptions> = {}, ...args: string[]) {
    const text = proxySetupScript({ ...options, ...more });
    // The script's own PATH has the folders of the system only.
    const path = join(host.dir, "proxy-setup.sh");
    host.writeFile(path, text.replace("PATH=", "PATH=/root/bin:"), 0o755);
    return await host.run(["sh", path, ...args], { timeout: PATIENCE });
  }
  async function nothingIsLeft(): Promise<void> {
    expect(await host.must(["ls", "-A", "/home"])).not.toContain(".walt-vpn.");
    expect(await host.must(["cat", KEYS])).not.toContain("trial");
  }

  beforeAll(async () => {
    lab = await Lab.create();
    host = await lab.host("proxy");
    await startSshd(host);
  });
  beforeEach(async () => {
    await host.must(["sh", "-c", "rm -rf /root/bin; mkdir -p /root/bin; cp -p /etc/pam.d/sshd /root/pam"]);
  });
  afterEach(async () => {
    await host.must(["sh", "-c", "cat /root/pam >/etc/pam.d/sshd; rm -rf /root/bin"]);
    await setup({}, "--remove");
    expect(await host.must(["sh", "-c", "ls -A /home; cat /etc/group"])).not.toContain("walt-vpn");
  });
  afterAll(() => lab?.stop());

  test(
    "sshd's settings are right and PAM keeps the user out: said in sshd's own words",
    async () => {
      host.writeFile("/etc/pam.d/sshd", "auth required pam_deny.so\naccount required pam_access.so\n");
      host.writeFile("/etc/security/access.conf", "-:walt-vpn:ALL\n");
      const { status, stdout, stderr } = await setup();
      expect(stderr).toContain("devices with a certificate would not pass this sshd");
      expect(stderr).toContain("sshd: Access denied for user walt-vpn by PAM account configuration");
      expect(stderr).toContain("/etc/security/access.conf");
      expect(stdout).not.toContain("sshd accepts");
      expect(status).toBe(1);
      expect(await keys()).toBe(markedKeys(options));
      await nothingIsLeft();
      host.writeFile("/etc/security/access.conf", "+:walt-vpn:ALL\n");
      expect((await setup()).stdout).toContain("sshd accepts walt-vpn: devices may pass to 127.0.0.1:22");
    },
    PATIENCE,
  );

  test(
    "the sshd that runs was not reloaded since its settings were mended",
    async () => {
      const port = { port: 2022, extraConfig: "AllowTcpForwarding no\nPidFile none\n" };
      const old = await startSshd(host, port);
      host.writeFile("/etc/ssh/sshd_config", "Port 2022\nUsePAM yes\n");
      const { status, stderr } = await setup();
      expect(stderr).toContain("administratively prohibited");
      expect(stderr).toContain("reload sshd, which has an older one");
      expect(status).toBe(1);
      await nothingIsLeft();
      await old.stop();
      const { stdout } = await setup();
      expect(stdout).toMatch(/note: no sshd answers here at .*0\.0\.0\.0:2022.*: start it/);
      host.writeFile("/etc/ssh/sshd_config", "UsePAM yes\n");
    },
    PATIENCE,
  );

  test(
    "an sshd that does not know permitlisten (before 7.8) has lines without it, and what that costs is said",
    async () => {
      await host.must(["cp", "/usr/sbin/sshd", "/root/sshd"]);
      program("sshd", `[ "$1" = -T ] || exec /root/sshd "$@"\n/root/sshd "$@" | grep -v ^permitlisten`);
      const { status, stdout, stderr } = await setup();
      expect([status, stderr]).toEqual([0, ""]);
      expect(stdout).toContain("note: this sshd is older than OpenSSH 7.8");
      expect(await keys()).toBe(markedKeys(options).replaceAll('permitlisten="127.0.0.1:1",', ""));
      expect((await setup()).stdout).toContain("unchanged: ");
    },
    PATIENCE,
  );

  test(
    "the next hop: reached, not there, or no SSH server",
    async () => {
      expect((await setup()).stdout).not.toContain("is not reached");
      const gone = await setup({ next: { host: "127.0.0.1", port: 9 } });
      expect(gone.stdout).toContain(
        "note: 127.0.0.1:9 is not reached from here now (connect failed: Connection refused)",
      );
      expect(gone.status).toBe(0);
      const unknown = await setup({ next: { host: "nonesuch.invalid", port: 22 } });
      expect(unknown.stdout).toMatch(/note: nonesuch.invalid:22 is not reached from here now \(.+\)/);
    },
    PATIENCE,
  );

  test(
    "stopped in the middle of the trial, it takes everything away; after SIGKILL the next run does",
    async () => {
      program("ssh", "echo $$ >/root/bin/pid.new; mv /root/bin/pid.new /root/bin/pid; exec sleep 1000");
      for (const signal of ["SIGTERM", "SIGINT", "SIGKILL"] as const) {
        await host.must(["rm", "-f", "/root/bin/pid"]);
        const text = proxySetupScript(options).replace("PATH=", "PATH=/root/bin:");
        host.writeFile(join(host.dir, "proxy-setup.sh"), text, 0o755);
        const script = host.spawn(["sh", join(host.dir, "proxy-setup.sh")]);
        await eventually("the trial", () => existsSync(host.path("/root/bin/pid")));
        expect(await keys()).toContain("trial walt-vpn=SHA256:");
        await host.must([
          "sh",
          "-c",
          `pkill -${signal.slice(3)} -o -f "sh ${join(host.dir, "proxy-setup.sh")}"`,
        ]);
        await eventually("its end", script.exited);
        if (signal === "SIGKILL") break;
        await nothingIsLeft();
        expect(await keys()).toBe(markedKeys(options));
        await eventually("the end of ssh", () =>
          host.processes().every(({ command }) => !/sleep (1000|20)$/.test(command)),
        );
      }
      await host.must(["sh", "-c", "pkill -KILL -x sleep; rm /root/bin/ssh"]);
      expect((await setup()).status).toBe(0);
      await nothingIsLeft();
      expect(await keys()).toBe(markedKeys(options));
    },
    PATIENCE,
  );

  test(
    "without an ssh nothing is promised; a clock behind the script's is told",
    async () => {
      await without("/usr/bin/ssh");
      const blind = await setup();
      await again("/usr/bin/ssh");
      expect(blind.stderr).toContain("there is no ssh or no ssh-keygen here to try a login with");
      expect(blind.status).toBe(1);
      const written = new Date(Date.now() + 2 * 3_600_000);
      const early = await setup({ written });
      expect(early.stderr).toContain(`this script was written at ${written.toISOString()}`);
      expect(early.status).toBe(1);
      expect((await setup({ written: new Date(Date.now() + 1_800_000) })).status).toBe(0);
    },
    PATIENCE,
  );

  test(
    "where users have no group of their own (USERGROUPS_ENAB no), --remove leaves none; one of others is refused",
    async () => {
      await host.must(["sed", "-i", "s/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/", "/etc/login.defs"]);
      for (let i = 0; i < 2; i++) {
        const { status, stderr } = await setup();
        expect([status, stderr]).toEqual([0, ""]);
        await setup({}, "--remove");
        expect(await host.must(["cat", "/etc/group"])).not.toContain("walt-vpn");
      }
      await host.must(["groupadd", "-r", "walt-vpn"]);
      expect((await setup()).status).toBe(0);
      await setup({}, "--remove");
      await host.must(["sh", "-c", "groupadd -r walt-vpn; usermod -aG walt-vpn daemon"]);
      const { status, stderr } = await setup();
      expect(stderr).toMatch(/the group walt-vpn exists already and has members: walt-vpn:.*daemon/);
      expect(status).toBe(1);
      await host.must(["groupdel", "walt-vpn"]);
    },
    PATIENCE,
  );

  /** Programs for accounts that are not here, made of those that are: they take only what the real ones take. */
  const ALPINE = {
    addgroup: '[ "$*" = "-S walt-vpn" ] && exec groupadd -r walt-vpn',
    adduser:
      '[ "$*" = "-S -D -H -G walt-vpn -h /home/walt-vpn -s /bin/sh -g WalT VPN walt-vpn" ] && exec /root/add -r -g walt-vpn -M -d /home/walt-vpn -s /bin/sh -c "WalT VPN" walt-vpn',
    deluser: '[ "$*" = walt-vpn ] && exec userdel -f walt-vpn',
    delgroup: '[ "$*" = walt-vpn ] && exec groupdel walt-vpn',
  };
  const FREEBSD = {
    uname: "echo FreeBSD",
    pw: `case "$*" in
"groupadd walt-vpn") exec groupadd -r walt-vpn ;;
"useradd walt-vpn -g walt-vpn -d /home/walt-vpn -s /bin/sh -w no -c WalT VPN")
  exec useradd -r -g walt-vpn -M -d /home/walt-vpn -s /bin/sh -p '*' -c "WalT VPN" walt-vpn ;;
"userdel walt-vpn") exec userdel -f walt-vpn ;;
"groupdel walt-vpn") exec groupdel walt-vpn ;;
"usermod walt-vpn -s /bin/sh") exec usermod -s /bin/sh walt-vpn ;;
esac
exit 1`,
  };
  test.each([
    ["Alpine", ALPINE],
    ["FreeBSD", FREEBSD],
  ] as const)(
    "the programs for accounts of %s are used",
    async (system, programs) => {
      await host.must(["cp", "/usr/sbin/useradd", "/root/add"]);
      for (const [name, text] of Object.entries(programs)) program(name, text);
      if (system === "Alpine") await without("/usr/sbin/useradd");
      const first = await setup();
      if (system === "Alpine") await again("/usr/sbin/useradd");
      expect(first.stderr).toBe("");
      expect(first.stdout).toContain("sshd accepts walt-vpn");
      expect(await host.must(["grep", "^walt-vpn:", "/etc/shadow"])).toStartWith("walt-vpn:*:");
      const removed = await setup({}, "--remove");
      expect(removed.stdout).toContain("removed the user walt-vpn");
    },
    PATIENCE,
  );

  test(
    "other programs for accounts are refused by name, and a user that was made by hand does",
    async () => {
      program("uname", "echo Darwin");
      const { status, stderr } = await setup();
      expect(stderr).toContain("knows no program for accounts of Darwin");
      expect(status).toBe(1);
      expect(await host.must(["ls", "/home"])).not.toContain("walt-vpn");
      await host.must([
        "sh",
        "-c",
        "groupadd walt-vpn; useradd -r -g walt-vpn -M -d /home/walt-vpn -s /bin/sh -p '*' -c 'WalT VPN' walt-vpn",
      ]);
      expect((await setup()).stdout).toContain("sshd accepts walt-vpn");
      const removed = await setup({}, "--remove");
      expect(removed.stderr).toContain("Its keys are removed: nobody comes in any more.");
      expect(removed.status).toBe(1);
      await host.must(["rm", "/root/bin/uname"]);
    },
    PATIENCE,
  );
});
