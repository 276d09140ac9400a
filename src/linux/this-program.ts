/** How to run this program again: the compiled binary, or the sources with Bun. */

import { join } from "node:path";

/** Whether this program is the compiled binary, whose modules are in Bun's virtual folder. */
export const isCompiled = import.meta.path.startsWith("/$bunfs/");

/** The words that run this program; its arguments are added. */
export function thisProgram(): string[] {
  return isCompiled ? [process.execPath] : [process.execPath, join(import.meta.dir, "../main.ts")];
}
