/**
 * Debian packages of walt: the binary, its units, completions and man pages. Built with dpkg-deb(1); the same
 * sources and the same SOURCE_DATE_EPOCH give the same bytes.
 */

import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { binaryPath, type Target } from "../build.ts";
import { completionScript } from "../src/commands/_completion.ts";
import { manPages } from "../src/commands/_man.ts";
import { root } from "../src/commands/root.ts";
import { TABLES } from "../src/config/schema.ts";
import { deviceUnit } from "../src/device/install/install.ts";
import { placesOf } from "../src/install/machine.ts";
import { run } from "../src/linux/run.ts";
import { SERVICE_USERS, unitFiles, useradd } from "../src/server/install/service.ts";
import { type Entry, writeTree } from "./tree.ts";

/** What Debian calls the architectures. */
export const ARCHITECTURES: Readonly<Record<Target, string>> = { x64: "amd64", arm64: "arm64" };

const HERE = import.meta.dir;
/** Where the package has the program: WalT's own is in /usr/local/bin. */
const PROGRAM = "/usr/bin/walt-vpn";
const UNITS = "usr/lib/systemd/system";
const MAINTAINER = "The WalT VPN authors <walt-vpn@lists.walt.example>";
const GROUP = TABLES.server.group.default;

/** Tags of lintian that are so on purpose. */
const OVERRIDES = `# Bun puts the program behind an ELF file as it comes: to strip it would take the program away.
walt: unstripped-binary-or-object [usr/bin/walt-vpn]
# These are parts of Bun's runtime, and that is linked so.
walt: embedded-library *
walt: hardening-no-pie [usr/bin/walt-vpn]
walt: hardening-no-relro [usr/bin/walt-vpn]
# Services of several roles, of which a machine has one: its operator enables it.
walt: maintainer-script-calls-systemctl *
`;

export interface PackageOptions {
  readonly target: Target;
  /** From build.ts. */
  readonly version: string;
  /** Seconds since 1970: SOURCE_DATE_EPOCH. */
  readonly time: number;
  /** Folder in which the package is put. */
  readonly output: string;
}

/** Build the package of an architecture. @returns its path. @throws WaltError when dpkg-deb fails. */
export async function debianPackage(o: PackageOptions): Promise<string> {
  const architecture = ARCHITECTURES[o.target];
  const tree = join(o.output, `.walt-${architecture}`);
  const file = join(o.output, `walt_${o.version}_${architecture}.deb`);
  try {
    const entries = await contents(o);
    const control = controlFiles(o, architecture, entries);
    writeTree(tree, [...entries, ...control], o.time);
    const env = {
      ...process.env,
      SOURCE_DATE_EPOCH: String(o.time),
      // The bytes must not depend on the number of processors.
      DPKG_DEB_THREADS_MAX: "1",
    };
    const command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "--build", tree, file];
    await run(command, { env, timeout: 600_000 });
    return file;
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

/** Everything that the package installs. */
async function contents(o: PackageOptions): Promise<Entry[]> {
  const day = new Date(o.time * 1000);
  const about = { version: o.version, date: day.toISOString().slice(0, 10) };
  const zipped = (text: string): Uint8Array => gzipSync(text, { level: 9 });
  const doc = "usr/share/doc/walt";
  const changelog = `walt (${o.version}) unstable; urgency=medium

  * The state of the sources at this version.

 -- ${MAINTAINER}  ${day.toUTCString().replace("GMT", "+0000")}
`;
  return [
    { path: PROGRAM.slice(1), content: readFileSync(binaryPath(o.target)), mode: 0o755 },
    { path: "usr/bin/walt", content: { link: "walt-vpn" } },
    ...units(),
    { path: "usr/share/bash-completion/completions/walt", content: await completionScript(root, "bash") },
    { path: "usr/share/bash-completion/completions/walt-vpn", content: { link: "walt" } },
    { path: "usr/share/zsh/vendor-completions/_walt", content: await completionScript(root, "zsh") },
    { path: "usr/share/fish/vendor_completions.d/walt.fish", content: await completionScript(root, "fish") },
    ...(await manPages(root, about)).map(({ file, text }) => ({
      path: `usr/share/man/man1/${file}.gz`,
      content: zipped(text),
    })),
    { path: `${doc}/copyright`, content: copyright() },
    { path: `${doc}/changelog.gz`, content: zipped(changelog) },
    { path: "usr/share/lintian/overrides/walt", content: OVERRIDES },
  ];
}

function units(): Entry[] {
  const config = placesOf("/").config;
  const server = unitFiles(placesOf("/"), { command: PROGRAM, config, group: GROUP });
  const all = [...server, { path: placesOf("/").deviceUnit, text: deviceUnit(PROGRAM) }];
  const relay = readFileSync(join(HERE, "walt-vpn-relay.service"), "utf8");
  return [
    // Not written by `server install` or `device install`: these commands leave a package's units alone.
    ...all.map(({ path, text }) => ({
      path: `${UNITS}/${path.split("/").at(-1)}`,
      content: text.replace(/^# Written by `[^`]*`\. /, "# "),
    })),
    { path: `${UNITS}/walt-vpn-relay.service`, content: relay },
  ];
}

function copyright(): string {
  const [, , holder = "", ...license] = readFileSync(join(HERE, "../LICENSE"), "utf8").split("\n");
  const body = license.slice(1).join("\n").trim().split("\n");
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: walt

Files: *
Copyright: ${holder.replace(/^Copyright \(c\) /, "2026 ")}
License: BSD-3-Clause

License: BSD-3-Clause
${body.map((line) => (line === "" ? " ." : ` ${line}`)).join("\n")}
`;
}

/** What dpkg does at installation, upgrade and removal. */
function controlFiles(o: PackageOptions, architecture: string, entries: readonly Entry[]): Entry[] {
  const bytes = entries.map(({ content }) =>
    typeof content === "object" && "link" in content ? 0 : content.length,
  );
  const kib = Math.ceil(bytes.reduce((sum, n) => sum + Math.ceil(n / 1024), 0));
  const control = `Package: walt
Version: ${o.version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${kib}
Depends: init-system-helpers (>= 1.52), iproute2, libc6 (>= 2.28), openssh-client, passwd
Recommends: dnsmasq-base
Suggests: ipxe, openssh-server, ${architecture === "amd64" ? "qemu-system-x86" : "qemu-efi-aarch64, qemu-system-arm"}
Section: net
Priority: optional
Homepage: https://walt-project.liglab.fr
Description: VPN by which distant boards become nodes of a WalT platform
 A device, such as a Raspberry Pi behind somebody's router, opens an SSH tunnel
 through a proxy to the server of the lab. The virtual machine on it is a node
 of the platform as if it stood in the lab.
 .
 One program is the server, the device, the relay and the command line. No
 service is started before its operator enables it.
`;
  const users = SERVICE_USERS.map(
    (user) =>
      `  getent passwd ${user.name} >/dev/null ||\n    ${useradd(user, GROUP)
        .map((word) => (/^[\w/.-]+$/.test(word) ? word : `"${word}"`))
        .join(" ")}`,
  ).join("\n");
  const script = (name: string): string =>
    readFileSync(join(HERE, `${name}.sh`), "utf8")
      .replaceAll("@GROUP@", GROUP)
      .replace("@USERS@", users);
  const scripts = ["postinst", "prerm", "postrm"];
  return [
    { path: "DEBIAN/control", content: control },
    { path: "DEBIAN/md5sums", content: checksums(entries) },
    ...scripts.map((name) => ({ path: `DEBIAN/${name}`, content: script(name), mode: 0o755 })),
  ];
}

/** deb-md5sums(5) */
function checksums(entries: readonly Entry[]): string {
  return entries
    .flatMap(({ path, content }) =>
      typeof content === "object" && "link" in content
        ? []
        : [`${new Bun.CryptoHasher("md5").update(content).digest("hex")}  ${path}\n`],
    )
    .join("");
}
