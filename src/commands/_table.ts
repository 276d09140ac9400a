/**
 * Lists for people: a table that fits the terminal. Columns for which there is no room are left out, and the
 * user is told. Elsewhere than on a terminal nothing is left out.
 */

import type { ArgsDef } from "citty";
import { suggest } from "../config/load.ts";
import { usageError } from "../errors.ts";
import { cut, quoted, table, wrap } from "../text.ts";
import { print } from "./_command.ts";
import { terminalWidth } from "./_terminal.ts";

/** A column of a list. */
export interface Column<T> {
  /** In the header: `SERIAL NUMBER`. `--columns` calls it `serial-number`. */
  readonly title: string;
  cell(row: T): string;
  /** Where there is no room, the column with the largest number is left out first; none never. */
  readonly spare?: number;
  /** Free text, which is cut where there is no room: one column at most. */
  readonly isText?: boolean;
}

/** What a list is made of. */
export interface List<T> {
  readonly columns: readonly Column<T>[];
  /** By what the rows are sorted. They keep their order unless given. */
  by?(row: T): string;
  /** A row as JSON; the row itself unless given. */
  json?(row: T): unknown;
  /** What is printed in place of an empty table. */
  readonly empty: string;
}

/** The values of the options of `listOptions`. */
export interface ListArgs {
  readonly columns?: string | undefined;
  readonly wide?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const nameOf = ({ title }: { readonly title: string }): string => title.toLowerCase().replaceAll(" ", "-");

/** The options of a command that prints this list. */
export function listOptions(columns: readonly { readonly title: string }[]) {
  return {
    columns: {
      type: "string",
      valueHint: "name[,name…]",
      description: `Only these columns, in this order, of: ${columns.map(nameOf).join(", ")}`,
    },
    wide: { type: "boolean", description: "All columns in full, also where the terminal is narrower" },
    json: { type: "boolean", description: "Print JSON" },
  } as const satisfies ArgsDef;
}

/** @throws WaltError (usage) when the options of a list do not fit together, or name no column. */
export function checkListArgs<T>({ columns }: Pick<List<T>, "columns">, args: ListArgs): void {
  if (args.json && (args.columns !== undefined || args.wide === true))
    throw usageError("--columns and --wide are for the table; --json prints everything");
  chosen(columns, args.columns);
}

function chosen<T>(columns: readonly Column<T>[], option: string | undefined): readonly Column<T>[] {
  return (
    option?.split(",").map((name) => {
      const column = columns.find((one) => nameOf(one) === name.trim().toLowerCase());
      if (column !== undefined) return column;
      throw usageError(`there is no column ${quoted(name)}; ${suggest(name, columns.map(nameOf))}`);
    }) ?? columns
  );
}

/**
 * Print a list, or all of it as JSON.
 * @throws as `checkListArgs`
 */
export function printList<T>(list: List<T>, rows: readonly T[], args: ListArgs): void {
  checkListArgs(list, args);
  if (args.json) {
    print(JSON.stringify(list.json === undefined ? rows : rows.map(list.json), null, 2));
    return;
  }
  if (rows.length === 0) {
    print(list.empty);
    return;
  }
  const { text, left } = listText(list, rows, args, terminalWidth());
  print(text);
  if (left.length === 0) return;
  const names = left.map(nameOf).join(", ");
  process.stderr.write(
    `Not shown here: ${names}. --wide shows all columns, --columns those that you name.\n`,
  );
}

/** The table, and the columns for which there was no room. @param width columns of the terminal, if it is one. */
export function listText<T>(
  { columns, by }: Omit<List<T>, "empty">,
  rows: readonly T[],
  args: ListArgs,
  width: number | undefined,
): { text: string; left: readonly Column<T>[] } {
  const shown = [...chosen(columns, args.columns)];
  const sorted = by === undefined ? rows : rows.toSorted((a, b) => inOrder(by(a), by(b)));
  const render = (): string =>
    table(
      shown.map(({ title }) => title),
      sorted.map((row) => shown.map(({ cell }) => cell(row))),
    );
  let text = render();
  if (width === undefined || args.wide === true) return { text, left: [] };
  const widthOf = (): number => Math.max(...text.split("\n").map((line) => Bun.stringWidth(line)));
  const free = shown.findIndex(({ isText }) => isText);
  // Free text that is last is cut before a column is left out, as long as its beginning can be read.
  const least = free < 0 || free !== shown.length - 1 ? 0 : MIN_TEXT;
  const room = (): number => {
    const [last] = shown.slice(-1);
    if (least === 0 || last?.isText !== true) return widthOf();
    const longest = Math.max(...sorted.map((row) => Bun.stringWidth(last.cell(row))), last.title.length);
    return widthOf() - Math.max(0, longest - least);
  };
  const left: Column<T>[] = [];
  while (room() > width) {
    const spare = args.columns === undefined ? mostSpare(shown) : undefined;
    if (spare === undefined) break;
    left.push(spare);
    shown.splice(shown.indexOf(spare), 1);
    text = render();
  }
  return {
    text: text
      .split("\n")
      .map((line) => cut(line, width))
      .join("\n"),
    left,
  };
}

/** Columns of free text that are shown at least. */
const MIN_TEXT = 16;

function mostSpare<T>(columns: readonly Column<T>[]): Column<T> | undefined {
  const spare = columns.filter((column) => column.spare !== undefined);
  return spare.toSorted((a, b) => (b.spare ?? 0) - (a.spare ?? 0))[0];
}

/** Names with numbers as people sort them: lab-2 before lab-10. */
export function inOrder(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** Rows of WHAT and VALUE: a long value goes on in the next line. */
export function factsText(
  rows: readonly (readonly [what: string, value: string])[],
  width: number | undefined = terminalWidth(),
): string {
  const all = [["WHAT", "VALUE"] as const, ...rows];
  const indent = Math.max(...all.map(([what]) => Bun.stringWidth(what))) + 2;
  return all
    .map(([what, value]) => {
      const text = width === undefined ? value : wrap(value, width, indent);
      return `${what}${" ".repeat(indent - Bun.stringWidth(what))}${text}`.trimEnd();
    })
    .join("\n");
}
