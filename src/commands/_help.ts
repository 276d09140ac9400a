/** `--help` and `walt help`: a command in words, wrapped to the terminal's width. */

import { wrap } from "../text.ts";
import type { Group } from "./_command.ts";
import { type Description, describe, type Option, type Term } from "./_describe.ts";
import { find } from "./_find.ts";

/** Columns of a term beside which its text stands; a longer one stands above it. */
const MAX_TERM = 22;

/**
 * The help of the command or group that was typed.
 * @param width columns.
 * @param isColoured headings are bold.
 */
export async function help(
  root: Group,
  words: readonly string[],
  width = 80,
  isColoured = false,
): Promise<string> {
  return helpText(await describe((await find(root, words)).entry), width, isColoured);
}

/** A description as text. */
export function helpText(one: Description, width: number, isColoured = false): string {
  const title = (text: string): string => (isColoured ? `\x1b[1m${text}\x1b[m` : text);
  const section = (name: string, body: string): string[] =>
    body === "" ? [] : [`${title(name)}\n\n${body}`];
  const examples = one.examples.map((example) => `  ${broken(example, width - 2)}`).join("\n");
  return `${[
    wrap(`${one.summary}.`.replace(/([.:])\.$/, "$1"), width),
    ...section("USAGE", `  ${wrap(one.usage, width, 2)}`),
    ...section("COMMANDS", terms(one.commands, width)),
    ...section("ARGUMENTS", terms(one.positionals, width)),
    ...section("OPTIONS", terms(one.options.map(optionTerm), width)),
    ...section(one.examples.length === 1 ? "EXAMPLE" : "EXAMPLES", examples),
    ...(one.commands.length === 0 ? [] : [`\`${one.name} COMMAND --help\` explains a command.`]),
  ].join("\n\n")}\n`;
}

function optionTerm({ name, short, value, text }: Option): Term {
  const hint = value === undefined ? "" : ` ${value}`;
  return { term: `${short === undefined ? "    " : `-${short}, `}--${name}${hint}`, text };
}

function terms(all: readonly Term[], width: number): string {
  const column = Math.min(MAX_TERM, Math.max(0, ...all.map(({ term }) => Bun.stringWidth(term)))) + 4;
  return all
    .map(({ term, text }) => {
      const words = wrap(text, width, column);
      const length = Bun.stringWidth(term) + 2;
      const gap = length <= column - 2 ? " ".repeat(column - length) : `\n${" ".repeat(column)}`;
      return `  ${term}${gap}${words}`.trimEnd();
    })
    .join("\n");
}

/** An example in lines, as a shell takes them: broken before an option or a word such as `|`, behind its comment. */
function broken(example: string, width: number): string {
  const [command = "", comment] = example.split(/ +# /);
  if (comment !== undefined && example.length > width) {
    const lines = wrap(comment, width - 2).split("\n");
    return [...lines.map((line) => `# ${line}`), broken(command, width)].join("\n  ");
  }
  const lines: string[] = [];
  for (const part of example.split(/ (?=-|\||&&)/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length + 3 <= width) lines.push(`${lines.pop()} ${part}`);
    else lines.push(part);
  }
  return lines.join(" \\\n      ");
}
