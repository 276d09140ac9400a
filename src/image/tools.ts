/** The host's programs that images are made with, and the Debian package of each. */

import { existsSync } from "node:fs";
import { WaltError } from "../errors.ts";

/** The folders of administration are not on every user's PATH, and what is there needs no right. */
export const TOOL_PATH = `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

const KEYRINGS = ["gpg", "pgp"].map((type) => `/usr/share/keyrings/debian-archive-keyring.${type}`);

/** For building a base. */
export const BUILD_TOOLS: Readonly<Record<string, string>> = {
  "apt-get": "apt",
  "dpkg-deb": "dpkg",
  xz: "xz-utils",
  depmod: "kmod",
  mksquashfs: "squashfs-tools",
  "mkfs.vfat": "dosfstools",
  mcopy: "mtools",
  "mkfs.ext4": "e2fsprogs",
};

/** For an image out of a base. */
export const WRITE_TOOLS: Readonly<Record<string, string>> = { mcopy: "mtools" };

/** Debian's archive keyring. Undefined where there is none. */
export function debianKeyring(): string | undefined {
  return KEYRINGS.find((file) => existsSync(file));
}

/**
 * All that is missing, at once.
 * @param keyring whether the archive keyring is needed.
 * @throws WaltError with the one command that installs it.
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

/** The environment that tools run in: English, UTC, no time of their own, nothing of the user's settings. */
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
