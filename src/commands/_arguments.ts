/**
 * The words after a command's name, as its definition for citty says: node's parseArgs cuts them into options
 * and arguments, and this checks each, so that a typo is never ignored.
 */

import { parseArgs } from "node:util";
import type { ArgDef, ArgsDef } from "citty";
import { suggest } from "../config/load.ts";
import { usageError } from "../errors.ts";
import { quoted, safeText } from "../text.ts";

type Typed<A extends ArgDef> = A extends { type: "boolean" }
  ? boolean
  : A extends { type: "enum"; options: readonly (infer O)[] }
    ? O
    : string;

/**
 * The values of arguments: those that may be left out are undefined then. Of an option that is repeated, the
 * last one.
 */
export type Values<T extends ArgsDef> = {
  readonly [K in keyof T]: T[K] extends { required: true } | { default: string | boolean }
    ? Typed<T[K]>
    : Typed<T[K]> | undefined;
};

export interface Arguments<T extends ArgsDef> {
  readonly values: Values<T>;
  /** All values of an option or argument, in the order in which they were typed. */
  every(option: string): readonly string[];
}

/**
 * @param name of the command, which begins every message.
 * @throws WaltError (usage) naming the option or argument that the command does not have, or that lacks its
 * value.
 */
export function parseArguments<T extends ArgsDef>(
  name: string,
  rawArgs: readonly string[],
  args: T,
): Arguments<T> {
  const wrong = (what: string): Error => usageError(`${name}: ${what}`, `\`${name} --help\` explains it.`);
  const options = Object.entries<ArgDef>(args).filter(([, arg]) => arg.type !== "positional");
  // The last argument takes all words that are left where its hint says so: "…".
  const positionals = Object.entries<ArgDef>(args).filter(([, arg]) => arg.type === "positional");
  const given = new Map<string, (string | true)[]>();
  const words: string[] = [];
  /** How many words there are before `--`, where the last two arguments both take all words that are left. */
  let split: number | undefined;
  const takesTwoLists = positionals.slice(-2).filter(([, arg]) => arg.valueHint === "…").length === 2;
  for (const token of tokensOf(rawArgs, options)) {
    if (token.kind === "option-terminator") {
      if (takesTwoLists) split = words.length;
    } else if (token.kind === "positional") {
      if (words.push(token.value) > positionals.length && positionals.at(-1)?.[1].valueHint !== "…")
        throw wrong(`unexpected argument ${quoted(token.value)}`);
    } else if (token.kind === "option") {
      const arg = options.find(([option]) => option === token.name)?.[1];
      if (arg === undefined) throw wrong(unknownOption(token.rawName, options));
      const value = optionValue(token, arg);
      if (value instanceof Problem) throw wrong(`${safeText(token.rawName)} ${value.what}`);
      given.set(token.name, [...(given.get(token.name) ?? []), value]);
    }
  }
  const values: Record<string, unknown> = {};
  for (const [option, arg] of options) values[option] = given.get(option)?.at(-1) ?? arg.default;
  for (const [index, [key, arg]] of positionals.entries()) {
    const isLast = index === positionals.length - 1;
    const from = isLast ? (split ?? index) : index;
    const to = isLast ? words.length : index === positionals.length - 2 ? (split ?? index + 1) : index + 1;
    const own = words.slice(from, to);
    values[key] = own[0];
    given.set(key, own);
    if (own.length === 0 && arg.required === true) throw wrong(`${key.toUpperCase()} is missing`);
  }
  return {
    // Every key was just given a value of the type that its definition says.
    values: values as Values<T>,
    every: (option) => (given.get(option) ?? []).filter((value) => value !== true),
  };
}

/** Not strict: node's own complaints are words for programmers, so that everything is checked here. */
function tokensOf(rawArgs: readonly string[], options: readonly [string, ArgDef][]) {
  const config = options.map(([key, arg]) => {
    const short = "alias" in arg && typeof arg.alias === "string" ? { short: arg.alias } : {};
    return [key, { type: arg.type === "boolean" ? "boolean" : "string", ...short }] as const;
  });
  return parseArgs({
    args: [...rawArgs],
    options: Object.fromEntries(config),
    allowPositionals: true,
    strict: false,
    tokens: true,
  }).tokens;
}

/** What is wrong with a value, to be said after the option's name. */
class Problem {
  constructor(readonly what: string) {}
}

function optionValue(
  { value, inlineValue }: { value?: string | undefined; inlineValue?: boolean | undefined },
  arg: ArgDef,
): string | true | Problem {
  if (arg.type === "boolean") return value === undefined ? true : new Problem(`takes no value`);
  if (value === undefined) return new Problem("needs a value");
  if (inlineValue !== true && /^-./.test(value)) {
    return new Problem(`needs a value, and ${quoted(value)} looks like an option`);
  }
  if (arg.type !== "enum" || arg.options?.includes(value) !== false) return value;
  return new Problem(`cannot be ${quoted(value)}; ${suggest(value, arg.options)}`);
}

function unknownOption(typed: string, options: readonly [string, ArgDef][]): string {
  const names = options.map(([option]) => `--${option}`);
  const guess = names.length === 0 ? "this command has no options" : suggest(typed, names);
  return `there is no option ${safeText(typed)}; ${guess}`;
}
