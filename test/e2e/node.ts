/** The node's own operating system for an arm64 VM, on a machine of any architecture. */

import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { Apt } from "../../src/image/base/apt.ts";
import { loadRecipe } from "../../src/image/base/recipe.ts";
import { findMirrors } from "../../src/image/base/sources.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";
import { assembleNodeOs } from "../lab/node-os.ts";

/**
 * Build it in a server's folder of boot files; bytes that a node downloads.
 * @param work an empty folder of its own.
 * @param cache where downloads are kept.
 */
export async function buildArm64Node(boot: string, work: string, cache: string): Promise<number> {
  mkdirSync(work);
  const { packages } = loadRecipe();
  const apt = await Apt.create({
    folder: join(cache, "apt"), // the base's packages: both are among them
    mirrors: await findMirrors(undefined),
    keyring: debianKeyring() ?? "",
    packages: { ...packages, withDependencies: [], alone: ["linux-image-arm64", "busybox-static"] },
  });
  await apt.update();
  const found = await apt.resolve();
  await apt.download(found);
  for (const { file } of found) await run(["dpkg-deb", "-x", file, work], { timeout: 120_000 });
  const { vmlinuz, initrd } = await assembleNodeOs(boot, work, "arm64");
  // iPXE unpacks it, and the emulated board's USB network is slow.
  writeFileSync(vmlinuz, gzipSync(readFileSync(vmlinuz)));
  return statSync(vmlinuz).size + statSync(initrd).size;
}
