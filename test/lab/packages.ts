/** What the laboratory needs of Debian, and how it gets there without starting any daemon on this machine. */

import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { arch } from "node:os";
import { WaltError } from "../../src/errors.ts";
import { run, runAny } from "../../src/linux/run.ts";

/** Packages for integration tests and the demo, for this machine's architecture; Debian 12 and 13 have all of them. */
export const PACKAGES: readonly string[] = [
  "openssh-server", // the proxy's sshd
  "openssh-client",
  "dnsmasq-base", // DHCP on walt-net; the package dnsmasq would also start a daemon
  "isc-dhcp-server", // DHCP as on a WalT server
  ...["snmpd", "snmp"], // the switch that a WalT server sees, and its commands
  "iproute2",
  "iputils-ping",
  "iptables", // what docker does to a bridge
  "util-linux", // unshare, nsenter
  "passwd", // useradd
  "ca-certificates",
  "xz-utils", // kernel modules of Debian 13
  ...(arch() === "arm64"
    ? ["qemu-system-arm", "qemu-efi-aarch64", "ipxe"] // the node's VM, its firmware and its network boot
    : [
        "qemu-system-x86",
        "ipxe",
        "qemu-user",
        "libc6-arm64-cross", // the last two run the arm64 binary
        "qemu-system-arm",
      ]), // nodes and boards of the other architecture
  ...[
    "dosfstools",
    "e2fsprogs",
    "kmod",
    "mtools",
    "squashfs-tools",
    "zstd",
    "fdisk",
    "binutils",
    "debian-archive-keyring",
  ], // SD-card images
  "mount", // losetup
  "netcat-openbsd", // the card's screen asks the supervisor with it
  "systemd", // systemd-analyze, which checks the server's unit
  "netcat-openbsd", // with which the card's screen asks the supervisor
  "libfaketime", // moves the clocks of single programs
  "chromium", // the page of `walt web` is tried in it
  "tmux", // the monitor's screen is tried in it
  "strace", // kills an installation at each of its steps
  "prometheus", // promtool, which tests the alert rules; no daemon of it is started
  "shellcheck", // proxy-setup.sh must be clean
  ...(Bun.which("busybox") === null ? ["busybox"] : []), // and run in its sh; busybox-static would do as well
];

/** invoke-rc.d asks this file whether a daemon may be started: 101 is "forbidden" (README.policy-rc.d of sysv-rc). */
const POLICY = "/usr/sbin/policy-rc.d";
const NONINTERACTIVE = {
  PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin:/usr/bin:/bin`,
  HOME: "/root",
  LC_ALL: "C.UTF-8",
  DEBIAN_FRONTEND: "noninteractive",
};

/** Those of `packages` that are not installed. */
export async function missingPackages(packages: readonly string[] = PACKAGES): Promise<string[]> {
  if (Bun.which("dpkg-query") === null) {
    throw new WaltError("this machine has no dpkg-query", {
      hint: `The demo and the integration tests want Debian 12 or 13, with ${packages.join(" ")}.`,
    });
  }
  const { stdout } = await runAny([
    "dpkg-query",
    "--show",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own syntax
    "--showformat=${Package} ${db:Status-Status}\n",
    ...packages,
  ]);
  const installed = new Set(
    stdout.split("\n").flatMap((line) => (line.endsWith(" installed") ? [line.split(" ")[0]] : [])),
  );
  return packages.filter((name) => !installed.has(name));
}

/**
 * Install what is missing; `say` gets a line for people about it. Nothing that is installed begins to run.
 * @throws WaltError naming the one command to type when this is not root, or with apt's last words.
 */
export async function installPackages(
  say: (line: string) => void,
  packages: readonly string[] = PACKAGES,
): Promise<void> {
  const missing = await missingPackages(packages);
  if (missing.length === 0) return;
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  if (process.geteuid?.() !== 0) {
    throw new WaltError(`these Debian packages are missing: ${missing.join(" ")}`, {
      hint: `sudo sh -c 'apt-get update && ${install.join(" ")}'`,
    });
  }
  say(`installing Debian packages: ${missing.join(" ")}`);
  const forbids = !existsSync(POLICY);
  if (forbids) {
    writeFileSync(POLICY, "#!/bin/sh\nexit 101\n");
    chmodSync(POLICY, 0o755);
  }
  try {
    await run(["apt-get", "update", "--quiet"], { timeout: 300_000, env: NONINTERACTIVE });
    await run(install, { timeout: 900_000, env: NONINTERACTIVE });
    await keepOff(SERVICES.flatMap(([name, ...units]) => (missing.includes(name) ? units : [])));
  } finally {
    if (forbids) rmSync(POLICY, { force: true });
  }
}

/** Packages with daemons, and the units of these. */
const SERVICES: readonly (readonly [name: string, ...units: string[]])[] = [
  ["openssh-server", "ssh.service", "ssh.socket"],
  ["isc-dhcp-server", "isc-dhcp-server.service"],
  ["snmpd", "snmpd.service"],
  ["prometheus", "prometheus.service", "prometheus-node-exporter.service"],
];

/** This machine got daemons that nobody asked for: they shall not start at the next boot either. */
async function keepOff(units: readonly string[]): Promise<void> {
  if (Bun.which("systemctl") === null || units.length === 0) return;
  // Without a running systemd this only removes links; a unit that this Debian does not have is no error.
  await runAny(["systemctl", "disable", ...units], { env: NONINTERACTIVE });
}
