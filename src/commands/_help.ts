/** `--help`, and what is said about a command that does not exist. */

import { type ArgsDef, type CommandDef, renderUsage } from "citty";
import { suggest } from "../config/load.ts";
import { examplesOf } from "./_command.ts";

type Any = CommandDef<ArgsDef>;

async function value<T>(v: T | Promise<T> | (() => T | Promise<T>)): Promise<T> {
  return await (typeof v === "function" ? (v as () => T | Promise<T>)() : v);
}

/** The command that the words name, as far as they name one, and the first word that they do not. */
async function find(
  root: Any,
  words: readonly string[],
): Promise<{ command: Any; unknown: string | undefined; names: string[] }> {
  let command = root;
  for (const word of words) {
    if (word.startsWith("-")) break;
    const subCommands = command.subCommands === undefined ? undefined : await value(command.subCommands);
    if (subCommands === undefined) break;
    const next = subCommands[word];
    if (next === undefined) return { command, unknown: word, names: Object.keys(subCommands) };
    command = await value(next);
  }
  const subCommands = command.subCommands === undefined ? {} : await value(command.subCommands);
  return { command, unknown: undefined, names: Object.keys(subCommands) };
}

/** The help of the command that was typed. */
export async function help(root: Any, rawArgs: readonly string[]): Promise<string> {
  const { command } = await find(root, rawArgs);
  const examples = examplesOf(command);
  const usage = await renderUsage(command);
  return `${usage.trimEnd()}\n${examples.length === 0 ? "" : `\n${examples.length === 1 ? "EXAMPLE" : "EXAMPLES"}\n\n${examples.map((e) => `  ${e}\n`).join("")}`}`;
}

/** One or two lines about what is wrong with the words that were typed. */
export async function explainUsage(root: Any, rawArgs: readonly string[], error: Error): Promise<string> {
  const { command, unknown, names } = await find(root, rawArgs);
  const meta = command.meta === undefined ? undefined : await value(command.meta);
  const name = meta?.name ?? "walt";
  const help = `\`${name} --help\` tells how it is used.`;
  if (unknown !== undefined)
    return `${name} has no command ${JSON.stringify(unknown)}; ${suggest(unknown, names)}\n${help}`;
  const option = names.length > 0 ? rawArgs.find((word) => word.startsWith("-")) : undefined;
  if (option !== undefined) return `${name} has no option ${JSON.stringify(option)}\n${help}`;
  if (names.length > 0) return `${name} wants one more word: ${names.join(", ")}\n${help}`;
  return `${name}: ${error.message}\n${help}`;
}
