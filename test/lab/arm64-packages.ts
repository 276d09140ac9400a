/** Debian packages for arm64, on a machine of any architecture: downloaded as for a card's base, and unpacked. */

import { mkdirSync } from "node:fs";
import { Apt } from "../../src/image/base/apt.ts";
import { ARM64 } from "../../src/image/base/architecture.ts";
import { aptFolder } from "../../src/image/base/cache.ts";
import { loadRecipe } from "../../src/image/base/recipe.ts";
import { findMirrors } from "../../src/image/base/sources.ts";
import { debianKeyring } from "../../src/image/tools.ts";
import { run } from "../../src/linux/run.ts";

/**
 * @param into a folder that is made.
 * @param cache where downloads are kept: that of `walt image build`.
 */
export async function unpackArm64(names: readonly string[], into: string, cache: string): Promise<void> {
  mkdirSync(into, { recursive: true });
  const { packages } = loadRecipe();
  const apt = await Apt.create({
    folder: aptFolder(cache, ARM64),
    architecture: ARM64,
    mirrors: await findMirrors(undefined),
    keyring: debianKeyring() ?? "",
    packages: { ...packages, withDependencies: [], alone: [...names] },
  });
  await apt.update();
  const found = await apt.resolve();
  await apt.download(found);
  for (const { file } of found) await run(["dpkg-deb", "-x", file, into], { timeout: 120_000 });
}
