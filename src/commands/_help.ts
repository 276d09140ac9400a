/** `--help`: what citty makes of a command's definition, and its examples. */

import { renderUsage } from "citty";
import type { Group } from "./_command.ts";
import { find } from "./_find.ts";

/** The help of the command or group that was typed. */
export async function help(root: Group, words: readonly string[]): Promise<string> {
  const { entry } = await find(root, words);
  const usage = (await renderUsage(entry)).trimEnd();
  if ("subCommands" in entry) return `${usage}\n`;
  const title = entry.examples.length === 1 ? "EXAMPLE" : "EXAMPLES";
  return `${usage}\n\n${title}\n\n${entry.examples.map((example) => `  ${example}\n`).join("")}`;
}
