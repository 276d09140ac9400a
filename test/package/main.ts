/**
 * `bun run test:package`: the Debian packages and the relay's image. Built twice, looked at by lintian, installed,
 * upgraded and purged on a Debian that has nothing but its base. Then a newcomer's run from the package alone, up to
 * a node that is up. Minutes; needs root.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { versionOf } from "../../build.ts";
import { debianPackage } from "../../packaging/debian.ts";
import { sourceTime } from "../../packaging/main.ts";
import { relayImage } from "../../packaging/oci.ts";
import { run } from "../../src/linux/run.ts";
import { makeEmptyRoot, runInside } from "../empty/root.ts";
import { ownTarget } from "../lab/binary.ts";
import { installPackages } from "../lab/packages.ts";
import { ensurePackages } from "../setup.ts";

const { values } = parseArgs({
  options: {
    suite: { type: "string", default: "trixie" },
    /** A minimal root that is there already; used up. */
    root: { type: "string" },
  },
});

const say = (text: string): void => console.log(`== ${text}`);

function same(what: string, a: string, b: string): void {
  const digest = (file: string): string =>
    new Bun.CryptoHasher("sha256").update(readFileSync(file)).digest("hex");
  if (digest(a) !== digest(b)) throw new Error(`${what}: other bytes the second time`);
  say(`${what}: the same bytes twice`);
}

const folder = mkdtempSync(join(tmpdir(), "walt-package-"));
let status = 1;
try {
  await ensurePackages(console.error);
  await installPackages((line) => console.error(line), ["lintian", "skopeo", "umoci"]);
  const [version, time] = [await versionOf(), await sourceTime()];
  // In a process of its own: this one still misses the packages that it has found missing.
  await run([process.execPath, join(import.meta.dir, "../../build.ts")], { timeout: 300_000 });
  const own = ownTarget();
  const at = (name: string): string => {
    mkdirSync(join(folder, name), { recursive: true });
    return join(folder, name);
  };
  const package_ = await debianPackage({ target: own, version, time, output: at("1") });
  // Another umask, and another time of day.
  process.umask(0o077);
  same("package", package_, await debianPackage({ target: own, version, time, output: at("2") }));
  process.umask(0o022);
  const other = own === "x64" ? "arm64" : "x64";
  const foreign = await debianPackage({ target: other, version, time, output: at("1") });
  for (const file of [package_, foreign]) {
    await run(["lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", "--allow-root", file], {
      timeout: 600_000,
    });
    say(`lintian has nothing to say about ${file}`);
  }

  const image = await relayImage({ target: own, version, time, output: at("1") });
  same("image", image, await relayImage({ target: own, version, time, output: at("2") }));
  const copy = `oci:${folder}/layout:relay`;
  await run(["skopeo", "copy", "--insecure-policy", `oci-archive:${image}`, copy], { timeout: 300_000 });
  await run(["umoci", "unpack", "--image", `${folder}/layout:relay`, join(folder, "bundle")], {
    timeout: 300_000,
  });
  // As a runtime of containers does it.
  const enter = 'mkdir -p proc dev && mount -t proc proc proc && mount --bind /dev dev && exec chroot . "$@"';
  const inside = await run([
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "sh",
    "-c",
    `cd "$0" && ${enter}`,
    join(folder, "bundle/rootfs"),
    "/usr/bin/walt-vpn",
    "version",
  ]);
  say(`the relay's image runs: walt ${inside.trim()}`);

  const earlier = await debianPackage({ target: own, version: "0.0.9", time, output: at("1") });
  const root = values.root ?? join(folder, "root");
  await makeEmptyRoot(root, values.suite);
  // Each on a Debian of its own: what the first leaves behind would help the second.
  const bare = join(folder, "bare");
  await run(["cp", "--archive", root, bare], { timeout: 300_000 });
  const files = [[earlier, "earlier.deb"] as const, [package_, "walt.deb"] as const];
  status = await runInside(root, join(import.meta.dir, "inside.sh"), files);
  if (status === 0) status = await runInside(bare, join(import.meta.dir, "newcomer.sh"), files);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
