/** Read while the program is bundled, so that the recipe is inside the compiled binary. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** One file of `device/`. */
export interface RecipeFile {
  /** Relative to `device/`, such as `root/etc/inittab`. */
  path: string;
  text: string;
  executable: boolean;
}

/** All files of `device/`, sorted by path. Runs as a macro of Bun: its value is what the program has. */
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
