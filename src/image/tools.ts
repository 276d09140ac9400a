/** The programs of this machine that images are made with, and the Debian package of each. */

import { existsSync } from "node:fs";
import { WaltError } from "../errors.ts";

/**
 * The PATH that tools are looked for in. Tools for file systems are in `sbin` folders, which are not on every
 * user's PATH although they need no special permission.
 */
export const TOOL_PATH = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/** Paths of Debian's archive keyring; the suffix depends on the release. */
const KEYRINGS = ["gpg", "pgp"].map((type) => `/usr/share/keyrings/debian-archive-keyring.${type}`);

/** Programs that build a node's image: program → package. */
export const SYSTEM_TOOLS: Readonly<Record<string, string>> = {
  "apt-get": "apt",
  "dpkg-deb": "dpkg",
  xz: "xz-utils",
  depmod: "kmod",
  mksquashfs: "squashfs-tools",
};

/** Programs that build a base of cards: program → package. */
export const BUILD_TOOLS: Readonly<Record<string, string>> = {
  ...SYSTEM_TOOLS,
  "mkfs.vfat": "dosfstools",
  mcopy: "mtools",
  "mkfs.ext4": "e2fsprogs",
};

/** Programs that make an image from a base: program → package. */
export const WRITE_TOOLS: Readonly<Record<string, string>> = { mcopy: "mtools" };

/** Path of Debian's archive keyring; undefined when this machine has none. */
export function debianKeyring(): string | undefined {
  return KEYRINGS.find((file) => existsSync(file));
}

/**
 * Check that all tools are installed, before any of them is used.
 * @param tools program → package.
 * @param keyring whether Debian's archive keyring is needed, too.
 * @throws WaltError that names everything that is missing, and one command that installs all of it.
 */
export function needTools(tools: Readonly<Record<string, string>>, keyring = false, path = TOOL_PATH): void {
  const missing = Object.entries(tools).filter(([program]) => Bun.which(program, { PATH: path }) === null);
  const packages = missing.map(([, name]) => name);
  const things = missing.map(([program]) => program);
  if (keyring && debianKeyring() === undefined) {
    things.push("Debian's archive keyring");
    packages.push("debian-archive-keyring");
  }
  if (things.length === 0) return;
  throw new WaltError(`missing on this machine: ${things.join(", ")}`, {
    hint: `sudo apt-get install --no-install-recommends ${[...new Set(packages)].sort().join(" ")}`,
  });
}

/**
 * The environment that tools run in: English messages, UTC, and no settings of the user.
 * @param epoch the current time as the tools are to see it, in seconds since 1970; the real time unless
 *   given.
 */
export function toolEnvironment(epoch?: number): Record<string, string> {
  return {
    PATH: TOOL_PATH,
    HOME: process.env["HOME"] ?? "/",
    LC_ALL: "C.UTF-8",
    TZ: "UTC",
    MTOOLSRC: "/dev/null",
    ...(epoch === undefined ? {} : { SOURCE_DATE_EPOCH: `${epoch}`, E2FSPROGS_FAKE_TIME: `${epoch}` }),
  };
}
