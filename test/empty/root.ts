/** A Debian that has nothing but its base, and a script that runs in it as root. */

import { chmodSync, copyFileSync, existsSync, mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { findMirrors } from "../../src/image/base/sources.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";
import { installPackages } from "../lab/packages.ts";

/** chroot(2) would not do: unshare(1) wants the root of a mount. */
const ENTER = `set -eu
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount --rbind /dev dev
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
cd /
exec sh "$1"`;

/** Make a minimal root with debootstrap(8), unless there is one already. */
export async function makeEmptyRoot(root: string, suite: string): Promise<void> {
  if (!existsSync(join(root, "bin"))) {
    await installPackages((line) => console.error(line), ["debootstrap", "debian-archive-keyring"]);
    const { debian } = await findMirrors(undefined);
    const options = ["--variant=minbase", `--keyring=${debianKeyring()}`];
    await run(["debootstrap", ...options, suite, root, debian], { timeout: 1_200_000 });
  }
  copyFileSync("/etc/resolv.conf", join(root, "etc/resolv.conf"));
}

/** Copy programs and a script to /opt/walt in the root, and run the script there. @returns its exit status. */
export async function runInside(
  root: string,
  script: string,
  files: readonly (readonly [from: string, name: string])[],
): Promise<number> {
  const there = join(root, "opt/walt");
  mkdirSync(there, { recursive: true });
  for (const [from, name] of [...files, [script, basename(script)] as const]) {
    mkdirSync(dirname(join(there, name)), { recursive: true });
    copyFileSync(from, join(there, name));
    chmodSync(join(there, name), 0o755);
  }
  const inside = ["sh", "-c", ENTER, root, `/opt/walt/${basename(script)}`];
  const command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", ...inside];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "inherit", stderr: "inherit", env: {} });
  return await child.exited;
}
