/** Man pages of all commands (man(7)), made from the commands' definitions. */

import type { Command, Group } from "./_command.ts";
import { type Description, describe, type Option, type Term } from "./_describe.ts";

/** A man page. */
export interface ManPage {
  /** Name of its file: `walt-vpn-list.1`. */
  readonly file: string;
  readonly text: string;
}

/**
 * The man pages of a command or group, and of all commands below it.
 * @param version and date of the program, for the lines at the bottom. `date` is as in `2026-03-01`.
 */
export async function manPages(
  entry: Command | Group,
  o: { readonly version: string; readonly date: string },
): Promise<ManPage[]> {
  const one = await describe(entry);
  const below: ManPage[] = [];
  if ("subCommands" in entry)
    for (const load of Object.values(entry.subCommands)) below.push(...(await manPages(await load(), o)));
  return [{ file: `${pageOf(one.name)}.1`, text: pageText(one, o) }, ...below];
}

const pageOf = (name: string): string => name.replaceAll(" ", "-");

/** Text in troff's language: its special characters are escaped, and a line does not begin with a request. */
function escaped(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replaceAll("`", "\\(ga")
    .replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti")
    .replaceAll("'", "\\(aq")
    .replaceAll('"', "\\(dq")
    .replaceAll("…", "...")
    .replace(/^\./gm, "\\&.");
}

function pageText(one: Description, o: { readonly version: string; readonly date: string }): string {
  const page = pageOf(one.name);
  const [title = ""] = one.summary.split(/(?<=[^.])[.:;] /);
  const parent = one.name.split(" ").slice(0, -1).join(" ");
  const others = [
    ...one.commands.map(({ term }) => `${one.name} ${term}`),
    ...(parent === "" ? [] : [parent]),
  ];
  return `${[
    `.TH ${page.toUpperCase()} 1 ${o.date} "walt ${o.version}" "WalT VPN"`,
    ".SH NAME",
    `${escaped(page)} \\- ${escaped(lowerFirst(title))}`,
    ".SH SYNOPSIS",
    `.B ${escaped(one.name)}`,
    ...synopsis(one),
    ".SH DESCRIPTION",
    escaped(`${one.summary}.`),
    ...section("COMMANDS", one.commands.flatMap(term)),
    ...section("ARGUMENTS", one.positionals.flatMap(term)),
    ...section("OPTIONS", one.options.flatMap(option)),
    ".SH EXIT STATUS",
    "0 if it is done, 1 if it failed, 2 if it was typed wrong.",
    ...section(
      "EXAMPLES",
      one.examples.flatMap((example, i) => [...(i === 0 ? [] : [".PP"]), ".EX", escaped(example), ".EE"]),
    ),
    ...section(
      "SEE ALSO",
      others.map((name, i) => `.BR ${escaped(pageOf(name))} (1)${i < others.length - 1 ? "," : ""}`),
    ),
  ].join("\n")}\n`;
}

/** What stands behind the name in the usage. */
function synopsis({ name, usage }: Description): string[] {
  const rest = usage.slice(name.length).trim();
  return rest === "" ? [] : [`.I ${escaped(rest)}`];
}

const section = (name: string, lines: readonly string[]): string[] =>
  lines.join("") === "" ? [] : [`.SH ${name}`, ...lines];

const term = ({ term: word, text }: Term): string[] => [".TP", `.B ${escaped(word)}`, escaped(text)];

function option({ name, short, value, text }: Option): string[] {
  const letter = short === undefined ? "" : `\\fB\\-${short}\\fR, `;
  const hint = value === undefined ? "" : ` \\fI${escaped(value)}\\fR`;
  return [".TP", `${letter}\\fB\\-\\-${escaped(name)}\\fR${hint}`, escaped(text)];
}

const lowerFirst = (text: string): string =>
  /^[A-Z][a-z]/.test(text) && !text.startsWith("WalT")
    ? `${text.charAt(0).toLowerCase()}${text.slice(1)}`
    : text;
