/** `bun run test:empty`: the compiled binaries alone, on a Debian that has nothing but its base, make an image. Minutes; needs root. */

import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findMirrors } from "../../src/image/base/sources.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";
import { waltBinary } from "../lab/binary.ts";
import { installPackages } from "../lab/packages.ts";

const { values } = parseArgs({
  options: {
    suite: { type: "string", default: "trixie" },
    /** A minimal root that is there already; used up. */
    root: { type: "string" },
  },
});

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
exec sh /opt/walt/inside.sh`;

const folder = mkdtempSync(join(tmpdir(), "walt-empty-"));
let status = 1;
try {
  const root = values.root ?? join(folder, "root");
  if (!existsSync(join(root, "bin"))) {
    await installPackages((line) => console.error(line), ["debootstrap", "debian-archive-keyring"]);
    const { debian } = await findMirrors(undefined);
    const options = ["--variant=minbase", `--keyring=${debianKeyring()}`];
    await run(["debootstrap", ...options, values.suite, root, debian], { timeout: 1_200_000 });
  }
  mkdirSync(join(root, "opt/walt"), { recursive: true });
  const put = (from: string, name: string): void => {
    copyFileSync(from, join(root, "opt/walt", name));
    chmodSync(join(root, "opt/walt", name), 0o755);
  };
  for (const target of ["x64", "arm64"] as const) put(await waltBinary(target), `walt-linux-${target}`);
  put(join(import.meta.dir, "inside.sh"), "inside.sh");
  copyFileSync("/etc/resolv.conf", join(root, "etc/resolv.conf"));
  const command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, root];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "inherit", stderr: "inherit", env: {} });
  status = await child.exited;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
