/** From the words that were typed to the command that they name. */

import { suggest } from "../config/load.ts";
import { usageError, type WaltError } from "../errors.ts";
import { quoted } from "../text.ts";
import type { Command, Group } from "./_command.ts";

export interface Found {
  /** A group, when the words name no command. */
  readonly entry: Command | Group;
  /** The words after its name. */
  readonly rest: readonly string[];
}

export async function find(root: Group, words: readonly string[]): Promise<Found> {
  let entry: Command | Group = root;
  let named = 0;
  while ("subCommands" in entry) {
    const word = words[named] ?? "";
    const load: (() => Promise<Command | Group>) | undefined = Object.hasOwn(entry.subCommands, word)
      ? entry.subCommands[word]
      : undefined;
    if (load === undefined) break;
    entry = await load();
    named++;
  }
  return { entry, rest: words.slice(named) };
}

/**
 * Run the command that was typed.
 * @throws WaltError (usage) when the words name none; whatever the command throws.
 */
export async function runTyped(root: Group, words: readonly string[]): Promise<void> {
  const { entry, rest } = await find(root, words);
  if ("subCommands" in entry) throw noCommand(entry, rest);
  await entry.start(rest, root);
}

/** What is wrong with words that name a group. */
export function noCommand({ meta, subCommands }: Group, [word]: readonly string[]): WaltError {
  const names = Object.keys(subCommands);
  const help = `\`${meta.name} --help\` explains it.`;
  if (word === undefined) return usageError(`${meta.name} wants one more word: ${names.join(", ")}`, help);
  if (word.startsWith("-")) return usageError(`${meta.name} has no option ${quoted(word)}`, help);
  return usageError(`${meta.name} has no command ${quoted(word)}; ${suggest(word, names)}`, help);
}
