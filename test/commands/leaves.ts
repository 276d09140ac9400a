/** All commands there are, with the words that lead to them. */

import type { Command, Group } from "../../src/commands/_command.ts";

export async function leaves(
  entry: Command | Group,
  words: readonly string[] = [],
): Promise<[words: readonly string[], Command][]> {
  if (!("subCommands" in entry)) return [[words, entry]];
  const found = await Promise.all(
    Object.entries(entry.subCommands).map(async ([word, load]) => leaves(await load(), [...words, word])),
  );
  return found.flat();
}
