/** Lists: what is shown where there is little room, and what is said of the rest. */

import { expect, test } from "bun:test";
import { checkListArgs, factsText, type List, listText } from "../../src/commands/_table.ts";
import { cut, wrap } from "../../src/text.ts";

interface Row {
  readonly name: string;
  readonly mac: string;
  readonly note: string;
}

const LIST: List<Row> = {
  columns: [
    { title: "NAME", cell: (row) => row.name },
    { title: "MAC ADDRESS", cell: (row) => row.mac, spare: 1 },
    { title: "TYPE", cell: () => "vpn", spare: 2 },
    { title: "NOTE", cell: (row) => row.note, isText: true },
  ],
  by: (row) => row.name,
  empty: "none",
};
const ROWS: readonly Row[] = [
  { name: "lab-10", mac: "b8:27:eb:00:00:10", note: "in the cellar, and the key is at the porter's" },
  { name: "lab-2", mac: "b8:27:eb:00:00:02", note: "" },
];

test("on no terminal everything is there, sorted as people sort", () => {
  expect(listText(LIST, ROWS, {}, undefined).text).toBe(
    [
      "NAME    MAC ADDRESS        TYPE  NOTE",
      "lab-2   b8:27:eb:00:00:02  vpn",
      "lab-10  b8:27:eb:00:00:10  vpn   in the cellar, and the key is at the porter's",
    ].join("\n"),
  );
});

test.each([
  [200, ["NAME", "MAC ADDRESS", "TYPE", "NOTE"]],
  [60, ["NAME", "MAC ADDRESS", "TYPE", "NOTE"]],
  [45, ["NAME", "MAC ADDRESS", "NOTE"]],
  [30, ["NAME", "NOTE"]],
  [10, ["NAME", "NOTE"]],
])("on %p columns no line is longer, and %p are left", (width, titles) => {
  const { text, left } = listText(LIST, ROWS, {}, width);
  for (const line of text.split("\n")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(width);
  const shown = LIST.columns.filter((column) => !left.includes(column)).map(({ title }) => title);
  expect(shown).toEqual(titles);
});

test("--wide shows everything, --columns what it names in its order", () => {
  expect(listText(LIST, ROWS, { wide: true }, 20)).toEqual(listText(LIST, ROWS, {}, undefined));
  expect(listText(LIST, ROWS, { columns: "mac-address,NAME" }, undefined).text).toStartWith(
    "MAC ADDRESS        NAME\nb8:27:eb:00:00:02  lab-2\n",
  );
});

test("a column that is not there is named, and the options of a table are none for JSON", () => {
  expect(() => checkListArgs(LIST, { columns: "name,mac-adress" })).toThrow(
    'there is no column "mac-adress"; did you mean mac-address?',
  );
  expect(() => checkListArgs(LIST, { json: true, wide: true })).toThrow("--json prints everything");
  expect(() => checkListArgs(LIST, { json: true })).not.toThrow();
});

test("facts: a long value goes on below itself", () => {
  const rows = [["reason", "the device was silent for a long time"]] as const;
  expect(factsText(rows, 30)).toBe("WHAT    VALUE\nreason  the device was silent\n        for a long time");
  expect(factsText(rows, undefined)).toBe("WHAT    VALUE\nreason  the device was silent for a long time");
});

test("text is cut and wrapped by columns, and not by characters", () => {
  expect(cut("日本語日本語", 7)).toBe("日本語…");
  expect(cut("short", 5)).toBe("short");
  expect(wrap("a b\nc", 80, 2)).toBe("a b\n  c");
});
