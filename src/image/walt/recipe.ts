/**
 * A recipe that turns an image of WalT for arm64 into one for the node of a Raspberry Pi: a Containerfile and what it
 * needs. It is built on the WalT server, by podman.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { makeFolders, writeFileAtomic } from "../../linux/files.ts";
import containerfile from "./Containerfile" with { type: "text" };
import setup from "./setup.sh" with { type: "text" };
import start from "./start.ipxe" with { type: "text" };

/**
 * Write the recipe into a folder that does not exist.
 * @throws WaltError when it exists, or cannot be made.
 */
export function writeRecipe(folder: string): void {
  if (existsSync(folder))
    throw new WaltError(`${folder} exists already`, { hint: "Name another folder with -o." });
  try {
    makeFolders(folder, 0o755);
  } catch (error) {
    const hint = "Name a folder that can be made, with -o.";
    throw new WaltError(`cannot make the folder ${folder}: ${messageOf(error)}`, { hint, cause: error });
  }
  for (const [name, text] of Object.entries({
    Containerfile: containerfile,
    "setup.sh": setup,
    "start.ipxe": start,
  }))
    writeFileAtomic(join(folder, name), text, { mode: 0o644 });
}
