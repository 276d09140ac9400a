/** Which nodes a command is for: names, globs, `all`, and their state. */

import type { ArgsDef } from "citty";
import { nearest } from "../../config/load.ts";
import { usageError, WaltError } from "../../errors.ts";
import { ALL_NODES } from "../../node-name.ts";
import { quoted } from "../../text.ts";

export const chooseOptions = {
  node: {
    type: "positional",
    required: false,
    valueHint: "…",
    description: `Names of nodes; * and ? stand for any characters, ${ALL_NODES} for all nodes`,
  },
  state: { type: "enum", options: ["up", "down"], description: "Only nodes whose tunnel is up or down" },
} as const satisfies ArgsDef;

/** What is known of a node: `NodeInfo` fits, and a device with `name` as well. */
export interface Choosable {
  readonly name: string;
  readonly defaultName: string;
  readonly state: string;
}

/** Whether one word names several nodes, or none. */
export function isPattern(word: string): boolean {
  return word === ALL_NODES || /[*?[{]/.test(word);
}

/**
 * The nodes that were typed, each once, in the order of `all`.
 * @param typed `state` alone is `all` with this state.
 * @param none what is said of a name that fits none, before the name.
 * @returns none only if no node that was named is in the state that was asked for.
 * @throws WaltError (usage) when no node is named at all; WaltError naming the word that fits none.
 */
export function chooseNodes<T extends Choosable>(
  all: readonly T[],
  typed: readonly string[],
  state?: string,
  none = "there is no node",
): T[] {
  if (typed.length === 0 && state === undefined)
    throw usageError(
      "no node is named",
      `Name nodes, or say which: lab-1, 'lab-*', ${ALL_NODES}, --state down.`,
    );
  const words = typed.length === 0 ? [ALL_NODES] : typed;
  const chosen = new Set(words.flatMap((word) => fitting(all, word, none)));
  return all.filter((one) => chosen.has(one) && (state === undefined || one.state === state));
}

function fitting<T extends Choosable>(all: readonly T[], word: string, none: string): T[] {
  if (word === ALL_NODES) return [...all];
  const glob = new Bun.Glob(word);
  const found = all.filter(({ name }) => name === word || (isPattern(word) && glob.match(name)));
  if (found.length > 0) return found;
  const list = "`walt node show` lists the nodes.";
  if (isPattern(word)) throw new WaltError(`no node has a name like ${quoted(word)}`, { hint: list });
  const renamed = all.find(({ defaultName }) => defaultName === word);
  if (renamed !== undefined) throw new WaltError(`${none} ${quoted(word)}: it is called ${renamed.name} now`);
  const near = nearest(
    word,
    all.map(({ name }) => name),
  );
  throw new WaltError(`${none} ${quoted(word)}`, {
    hint: near === undefined ? list : `Did you mean ${near}?`,
  });
}
