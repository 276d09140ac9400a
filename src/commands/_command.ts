/** What all commands share: their definition with an example, strict arguments, and common options. */

import { parseArgs } from "node:util";
import { type ArgsDef, type CommandContext, type CommandDef, defineCommand } from "citty";
import { suggest } from "../config/load.ts";
import { messageOf, usageError } from "../errors.ts";

const examples = new WeakMap<object, readonly string[]>();

/** Examples of a command, for its help. */
export function examplesOf(command: object): readonly string[] {
  return examples.get(command) ?? [];
}

export interface Command<T extends ArgsDef> {
  /** As typed: `walt vpn monitor`. */
  name: string;
  description: string;
  /** At least one line a user could type. */
  examples: readonly [string, ...string[]];
  args: T;
  /** `every` gives all values of an option that may be given several times; `args` has the last one only. */
  run(args: CommandContext<T>["args"], every: (option: string) => readonly string[]): Promise<void>;
}

/** A command whose unknown options and surplus arguments are errors: a typo is never ignored. */
export function command<const T extends ArgsDef>(c: Command<T>): CommandDef<ArgsDef> {
  const definition = defineCommand({
    meta: { name: c.name, description: c.description },
    args: c.args,
    setup: ({ rawArgs }: CommandContext<T>) => checkArguments(c.name, rawArgs, c.args),
    run: ({ args, rawArgs }: CommandContext<T>) => c.run(args, (option) => valuesOf(option, rawArgs, c.args)),
  });
  examples.set(definition, c.examples);
  // A group holds commands with options of all kinds; citty calls each only with its own.
  return definition as unknown as CommandDef<ArgsDef>;
}

/** A group of commands, loaded only when one of them is used. */
export function group(
  name: string,
  description: string,
  subCommands: Record<string, () => Promise<CommandDef<ArgsDef>>>,
): CommandDef {
  return defineCommand({ meta: { name, description }, subCommands });
}

/** The options among a command's arguments, as parseArgs of node:util wants them. */
function optionsOf(args: ArgsDef) {
  const options: Record<string, { type: "string" | "boolean"; short?: string }> = {};
  for (const [key, arg] of Object.entries(args)) {
    if (arg.type === "positional") continue;
    const short =
      "alias" in arg && typeof arg.alias === "string" && arg.alias.length === 1 ? arg.alias : undefined;
    options[key] = {
      type: arg.type === "boolean" ? "boolean" : "string",
      ...(short === undefined ? {} : { short }),
    };
  }
  return options;
}

/** All values of an option, in the order in which they were typed; checkArguments has found nothing wrong with them. */
function valuesOf(option: string, rawArgs: readonly string[], args: ArgsDef): string[] {
  const { tokens } = parseArgs({
    args: [...rawArgs],
    options: optionsOf(args),
    allowPositionals: true,
    tokens: true,
  });
  return tokens.flatMap((t) => (t.kind === "option" && t.name === option ? [t.value ?? ""] : []));
}

/** @throws WaltError (usage) naming the option or argument that the command does not have. */
export function checkArguments(name: string, rawArgs: readonly string[], args: ArgsDef): void {
  const options = optionsOf(args);
  const positionals = Object.values(args).filter((arg) => arg.type === "positional").length;
  const help = `\`${name} --help\` tells how it is used.`;
  try {
    const parsed = parseArgs({ args: [...rawArgs], options, allowPositionals: true, strict: true });
    const surplus = parsed.positionals[positionals];
    if (surplus !== undefined)
      throw usageError(`${name}: unexpected argument ${JSON.stringify(surplus)}`, help);
  } catch (error) {
    const unknown = /^Unknown option '(--?[^']*)'/.exec(messageOf(error))?.[1];
    if (unknown !== undefined) {
      const names = Object.keys(options).map((option) => `--${option}`);
      const guess = names.length === 0 ? "it has no options" : suggest(unknown, names);
      throw usageError(`${name}: there is no option ${unknown}; ${guess}`, help);
    }
    if (error instanceof TypeError)
      throw usageError(`${name}: ${messageOf(error).split(/\. (To|Did)/)[0] ?? ""}`, help);
    throw error;
  }
}

export const configOption = {
  config: {
    type: "string",
    valueHint: "file",
    description: "The configuration; unless told WALT_CONFIG, else /etc/walt/vpn.toml",
  },
} as const satisfies ArgsDef;

export const jsonOption = {
  json: { type: "boolean", description: "Print JSON" },
} as const satisfies ArgsDef;

/** Print to standard output; a reader that has gone (`| head`) is no error. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Aborted by ^C or SIGTERM. A second ^C ends the program as it would without us. */
export function untilStopped(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => controller.abort(signal));
  return controller.signal;
}
