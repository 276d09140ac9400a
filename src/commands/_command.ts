/** What all commands share: their definition with an example, and common options. */

import { type ArgsDef, type CommandDef, defineCommand } from "citty";
import { WaltError } from "../errors.ts";
import { parseArguments, type Values } from "./_arguments.ts";

/** A command, as citty defines it. */
export interface Command extends Pick<CommandDef, "meta" | "args"> {
  readonly meta: { readonly name: string; readonly description: string };
  readonly args: ArgsDef;
  /** Lines that a user could type, for its help. */
  readonly examples: readonly string[];
  /**
   * Run it with the words that were typed after its name.
   * @param root of the tree of commands that it is in.
   * @throws WaltError (usage) when the words are wrong.
   */
  start(rawArgs: readonly string[], root: Group): Promise<void>;
}

/** A group of commands, as citty defines it. Each is loaded only when it is used. */
export interface Group extends Pick<CommandDef, "meta" | "subCommands"> {
  readonly meta: { readonly name: string; readonly description: string };
  readonly subCommands: Readonly<Record<string, () => Promise<Command | Group>>>;
  /** As of a command. */
  readonly examples: readonly string[];
}

export interface CommandOptions<T extends ArgsDef> {
  /** As typed: `walt vpn monitor`. */
  name: string;
  description: string;
  examples: readonly [string, ...string[]];
  args: T;
  /**
   * `every` gives all values of an option that may be given several times, and all words of an argument that
   * takes several; `args` has only one of them. `root` is that of the tree of commands.
   */
  run(args: Values<T>, every: (option: string) => readonly string[], root: Group): Promise<void>;
}

/** Define a command. Words that it does not know are errors: a typo is never ignored. */
export function command<const T extends ArgsDef>(o: CommandOptions<T>): Command {
  const { name, description, examples, args } = o;
  const meta = { name, description };
  const start = async (rawArgs: readonly string[], root: Group): Promise<void> => {
    const { values, every } = parseArguments(name, rawArgs, args);
    await o.run(values, every, root);
  };
  return { ...defineCommand<ArgsDef>({ meta, args }), meta, args, examples, start };
}

/** Define a group of commands. @param name as typed: `walt vpn`. */
export function group(
  name: string,
  description: string,
  examples: readonly [string, ...string[]],
  subCommands: Group["subCommands"],
): Group {
  const meta = { name, description };
  return { ...defineCommand({ meta, subCommands }), meta, subCommands, examples };
}

export const configOption = {
  config: {
    type: "string",
    valueHint: "file",
    description: "The configuration (default: $WALT_CONFIG, or /etc/walt/vpn.toml)",
  },
} as const satisfies ArgsDef;

export const jsonOption = {
  json: { type: "boolean", description: "Print JSON" },
} as const satisfies ArgsDef;

/** A time in ISO 8601 as people read it, to the second, in local time: `2026-03-01 14:05:07`. */
export function localTime(time: string): string {
  // The Swedish form is that of ISO 8601.
  return new Date(time).toLocaleString("sv-SE");
}

let unread = 0;

/** Write to standard output, without a line break; a reader that has gone (`| head`) is no error. */
export function write(text: string): void {
  unread += text.length;
  // Bun's stdout always says 0 for `writableLength`; the callback comes when the text is in the pipe.
  process.stdout.write(text, () => (unread -= text.length));
}

/** Print a line to standard output. */
export function print(text: string): void {
  write(`${text}\n`);
}

/** Print a line to standard error. */
export function printError(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** What `-o` calls standard output. */
export const STDOUT = "-";

/** A time in ISO 8601 as people read it, to the minute: `2026-03-01 14:05`, UTC. */
export function minute(time: string): string {
  return time.slice(0, 16).replace("T", " ");
}

/** Characters that may wait for the reader of standard output. */
const MOST_UNREAD = 1 << 20;

/** Nobody reads what a command goes on to print. */
export class UnreadError extends WaltError {}

/** @throws UnreadError when too much waits for the reader of standard output. */
export function refuseUnread(): void {
  if (unread > MOST_UNREAD)
    throw new UnreadError("standard output is not being read, so that no events can be shown");
}

const stopped = new AbortController();
/** Aborted when a signal has ended a command that asked for `untilStopped`. */
export const stopSignal: AbortSignal = stopped.signal;

/** Aborted by ^C or SIGTERM from now on. A second ^C ends the program as it would without us. */
export function untilStopped(): AbortSignal {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => stopped.abort(signal));
  return stopSignal;
}
