/** Reads the files of `device/` while the program is bundled, so that the compiled binary contains them. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** One file of `device/`. */
export interface RecipeFile {
  /** Relative to `device/`, such as `root/etc/inittab`. */
  path: string;
  /** Its content. */
  text: string;
  /** Whether its owner may execute it. */
  executable: boolean;
}

/**
 * All files of `device/`, sorted by path. Bun runs this function as a macro
 * (https://bun.sh/docs/bundler/macros): at build time, and the compiled program contains only its result.
 */
export function readRecipe(): RecipeFile[] {
  const folder = join(import.meta.dir, "../../../device");
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  return paths.flatMap((path) => {
    const stat = statSync(join(folder, path));
    if (!stat.isFile()) return [];
    const text = readFileSync(join(folder, path), "utf8");
    return [{ path, text, executable: (stat.mode & 0o100) !== 0 }];
  });
}
