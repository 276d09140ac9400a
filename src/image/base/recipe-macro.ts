/**
 * Reads the files of `device/` and `node/` while the program is bundled, so that the compiled binary contains
 * them.
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** One file of a recipe. */
export interface RecipeFile {
  /** Relative to the recipe's folder, such as `root/etc/inittab`. */
  path: string;
  /** Its content. */
  text: string;
  /** Whether its owner may execute it. */
  executable: boolean;
}

/**
 * All files of a recipe, sorted by path. Bun runs this function as a macro
 * (https://bun.sh/docs/bundler/macros): at build time, and the compiled program contains only its result.
 */
export function readRecipe(recipe: "device" | "node"): RecipeFile[] {
  const folder = join(import.meta.dir, "../../..", recipe);
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  return paths.flatMap((path) => {
    const stat = statSync(join(folder, path));
    if (!stat.isFile()) return [];
    const text = readFileSync(join(folder, path), "utf8");
    return [{ path, text, executable: (stat.mode & 0o100) !== 0 }];
  });
}
