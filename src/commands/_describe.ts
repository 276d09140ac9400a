/** What can be said of a command or a group: what help, man pages and completion are made of. */

import type { ArgDef } from "citty";
import type { Command, Group } from "./_command.ts";

/** A command or a group, for people. */
export interface Description {
  /** As typed: `walt vpn monitor`. */
  readonly name: string;
  /** A sentence or several. */
  readonly summary: string;
  /** How it is typed: `walt vpn accept [OPTIONS] CODE…`. */
  readonly usage: string;
  readonly positionals: readonly Term[];
  readonly options: readonly Option[];
  /** Commands of a group, by the word that follows its name. */
  readonly commands: readonly Term[];
  /** Lines that a user could type. */
  readonly examples: readonly string[];
}

/** A word, and what it means. */
export interface Term {
  readonly term: string;
  readonly text: string;
}

/** An option of a command. */
export interface Option {
  /** Without the dashes. */
  readonly name: string;
  /** The letter of its short form. */
  readonly short: string | undefined;
  /** What its value is, for people; undefined when it takes none. */
  readonly value: string | undefined;
  /** The values that are allowed; none where there are too many to name. */
  readonly values: readonly string[];
  readonly text: string;
}

/** The options of every command. */
const HELP: Option = { name: "help", short: "h", value: undefined, values: [], text: "Show this help" };

/** Describe a command, or a group with its commands. */
export async function describe(entry: Command | Group): Promise<Description> {
  const { name, description } = entry.meta;
  const base = { name, summary: description, examples: entry.examples };
  if ("subCommands" in entry) {
    const commands: Term[] = [];
    for (const [term, load] of Object.entries(entry.subCommands))
      commands.push({ term, text: firstSentence((await load()).meta.description) });
    const version: Option = { ...HELP, name: "version", short: "v", text: "Print the version" };
    const options = name === "walt" ? [HELP, version] : [HELP];
    return { ...base, usage: `${name} COMMAND`, positionals: [], options, commands };
  }
  const args = Object.entries<ArgDef>(entry.args);
  const positionals = args.flatMap(([key, arg]) => (arg.type === "positional" ? [positional(key, arg)] : []));
  const options = args.flatMap(([key, arg]) => (arg.type === "positional" ? [] : [option(key, arg)]));
  const words = positionals.map(({ term, isRequired }) => (isRequired ? term : `[${term}]`));
  const usage = [name, "[OPTIONS]", ...words].join(" ");
  return { ...base, usage, positionals, options: [...options, HELP], commands: [] };
}

function positional(key: string, arg: ArgDef): Term & { readonly isRequired: boolean } {
  const many = arg.valueHint === "…" ? "…" : "";
  return {
    term: `${key.toUpperCase()}${many}`,
    text: arg.description ?? "",
    isRequired: arg.required === true,
  };
}

function option(name: string, arg: ArgDef): Option {
  const short = "alias" in arg && typeof arg.alias === "string" ? arg.alias : undefined;
  const values = arg.type === "enum" ? (arg.options ?? []) : [];
  const value =
    arg.type === "boolean" ? undefined : values.length > 0 ? values.join("|") : (arg.valueHint ?? "value");
  const fallback = typeof arg.default === "string" ? ` (default: ${arg.default})` : "";
  return { name, short, value, values, text: `${arg.description ?? ""}${fallback}` };
}

/** What stands in the list of a group's commands. */
function firstSentence(text: string): string {
  return text.split(/(?<=[^.])[.:;] /)[0] ?? text;
}
