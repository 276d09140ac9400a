/** The monitor's table: keys and events in, lines and answers out, with a clock of its own. */

import { beforeEach, describe, expect, test } from "bun:test";
import { type Action, MonitorScreen, READING_TIME } from "../../src/commands/vpn/_monitor-screen.ts";
import { MonitorTable } from "../../src/commands/vpn/_monitor-table.ts";
import { PENDING } from "../api/messages.ts";

let now: number;
let screen: MonitorScreen;
let table: MonitorTable;
beforeEach(() => {
  now = Date.parse("2026-03-01T12:00:00Z");
  screen = new MonitorScreen({ columns: 80, colours: false, table: true });
  table = new MonitorTable(screen);
});

/** A device asks. */
function asks(id: string, code: string, more: object = {}): Action[] {
  const request = {
    ...PENDING,
    id,
    code,
    fingerprint: `SHA256:${id}`,
    mac: `b8:27:eb:00:00:0${id}`,
    serialNumber: id,
    ...more,
  };
  const actions = screen.event({ type: "request", request }, now);
  table.settle(now);
  return actions;
}

function gone(id: string): void {
  screen.event({ type: "answered", id, outcome: "withdrawn", by: "the device" }, now);
  table.settle(now);
}

/** Press keys one after the other, with so many ms before each. */
function press(keys: string, pause = READING_TIME): Action[] {
  const names: Readonly<Record<string, string>> = {
    ...{ "↑": "up", "↓": "down", "⏎": "return", "⎋": "escape", "⌫": "backspace" },
  };
  return [...keys].flatMap((text) => {
    now += pause;
    return table.key(names[text] === undefined ? { name: text, text } : { name: names[text], text: "" }, now);
  });
}

const answers = (actions: readonly Action[]): object[] =>
  actions.flatMap((action) => ("answer" in action ? [action.answer] : []));

const lines = (height = 24): string[] => table.lines(height);

test("nothing waits: nothing is drawn, and keys do nothing", () => {
  expect(lines()).toEqual([]);
  expect(press("abc⏎")).toEqual([]);
  asks("1", "PG2WB-J9NS3");
  expect(lines().at(-1)).toEndWith("(or deny CODE): ");
});

test("requests stand in one table, and each is told once with its time and its code", () => {
  const [first] = asks("1", "PG2WB-J9NS3");
  expect(first).toEqual({
    print: expect.stringMatching(/^\d\d:\d\d:\d\d PG2WB-J9NS3 \(b8:27:eb:00:00:01\) asks for access/),
  });
  asks("2", "7KQ2M-X9ABC");
  expect(lines()).toEqual([
    "2 devices wait:",
    expect.stringMatching(/^ {2}PG2WB-J9NS3 {2}b8:27:eb:00:00:01 {2}Pi/),
    expect.stringMatching(/^ {2}7KQ2M-X9ABC {2}b8:27:eb:00:00:02 {2}Pi/),
    "↑ ↓ and Enter choose a line, / filters, ^C ends",
    "The first 3 characters of the code on the device (or deny CODE): ",
  ]);
  gone("1");
  expect(lines()[0]).toBe("1 device waits:");
});

test("the first characters of a code, and Enter, accept it; with name and note, or another verb", () => {
  asks("1", "PG2WB-J9NS3");
  expect(answers(press("pg3⌫2 as lab-3 note by the door⏎"))).toEqual([
    { ...{ id: "1", fingerprint: "SHA256:1", accept: true }, name: "lab-3", note: "by the door" },
  ]);
  asks("2", "7KQ2M-X9ABC");
  expect(press("7kx⏎")).toEqual([{ say: 'No device that waits has a code that begins like "7kx".' }]);
  expect(press("y⏎")).toEqual([{ say: expect.stringContaining("accepts nothing") }]);
  expect(answers(press("block 7kq⏎"))).toMatchObject([{ id: "2", accept: false, block: "key" }]);
});

describe("a line that was chosen", () => {
  beforeEach(() => {
    asks("1", "PG2WB-J9NS3");
    asks("2", "7KQ2M-X9ABC");
  });

  test("is shown as a whole, and a, a name and a note accept it", () => {
    press("↓↓");
    expect(lines()[2]).toStartWith("> 7KQ2M-X9ABC");
    press("⏎");
    expect(lines().join("\n")).toContain("short code     7KQ2M-X9ABC");
    press("a");
    expect(lines().at(-1)).toBe("Name of the node (empty: the server chooses): ");
    press("Lab 3⏎");
    expect(lines().at(-2)).toContain('"Lab 3" cannot be a node\'s name');
    press("⌫⌫⌫⌫⌫lab-3⏎");
    expect(lines().at(-1)).toBe("Note about it (may be empty): ");
    expect(answers(press("shelf 2⏎"))).toEqual([
      { ...{ id: "2", fingerprint: "SHA256:2", accept: true }, name: "lab-3", note: "shelf 2" },
    ]);
  });

  test("d denies, b blocks the key, s asks and then blocks the source, Escape leaves", () => {
    expect(answers(press("↓⏎⎋"))).toEqual([]);
    expect(answers(press("⏎sn⎋"))).toEqual([]);
    expect(answers(press("⏎sy"))).toEqual([
      { ...{ id: "1", fingerprint: "SHA256:1", accept: false }, block: "source" },
    ]);
    expect(answers(press("↓⏎b"))).toEqual([
      { ...{ id: "2", fingerprint: "SHA256:2", accept: false }, block: "key" },
    ]);
    asks("3", "ZZZZZ-00000");
    expect(answers(press("↓⏎d"))).toEqual([{ id: "3", fingerprint: "SHA256:3", accept: false }]);
  });

  test("stays the one that was chosen when others come and go; when it goes, none is", () => {
    press("↓↓");
    gone("1");
    asks("3", "ZZZZZ-00000", { mac: "b8:27:eb:00:00:02" });
    expect(lines().find((line) => line.startsWith(">"))).toStartWith("> 7KQ2M-X9ABC");
    gone("2");
    expect(lines().some((line) => line.startsWith(">"))).toBe(false);
    expect(press("⏎")).toEqual([]);
    expect(lines()[0]).toBe("1 device waits:");
  });
});

describe("keys that were typed ahead do not count", () => {
  test("before the table is there", () => {
    table.quiet(now);
    asks("1", "PG2WB-J9NS3");
    expect(press("↓⏎a⏎⏎", 10)).toEqual([]);
    expect(lines()[1]).toStartWith("  PG2WB");
  });

  test("of an answer to what is shown only now", () => {
    asks("1", "PG2WB-J9NS3");
    expect(press("pg2⏎", 10)).toEqual([{ say: expect.stringContaining("Not counted") }]);
    press("↓", READING_TIME);
    expect(press("⏎d", 10)).toEqual([]);
    expect(lines().at(-1)).toStartWith("a accepts, d denies");
    now += READING_TIME;
    expect(answers(press("d", 10))).toHaveLength(1);
  });

  test("when the device goes while its name is typed", () => {
    asks("1", "PG2WB-J9NS3");
    asks("2", "7KQ2M-X9ABC");
    press("↓⏎alab-3");
    gone("1");
    expect(lines().at(-2)).toBe("That device does not wait any more.");
    expect(press("-7kq⏎", 10)).toEqual([]);
    now += READING_TIME;
    expect(lines().at(-1)).toEndWith("(or deny CODE): ");
    expect(answers(press("7kq⏎"))).toHaveLength(1);
  });
});

test("a filter shows what fits; Escape shows all again", () => {
  asks("1", "PG2WB-J9NS3", { model: "Raspberry Pi 3" });
  asks("2", "7KQ2M-X9ABC", { model: "mini-PC" });
  press("/rasp");
  expect(lines()).toEqual([
    "2 devices wait, 1 shown:",
    expect.stringContaining("PG2WB"),
    expect.any(String),
    "Filter: rasp",
  ]);
  press("⏎↓⏎");
  expect(lines().join()).toContain("short code     PG2WB-J9NS3");
  press("⎋⎋");
  expect(lines()[0]).toBe("2 devices wait:");
});

test("however many wait, the table fits the terminal, and has the chosen line", () => {
  for (let i = 1; i < 80; i++) {
    const code = `PG${String(i).padStart(3, "0")}-J9NS3`;
    asks(String(i), code, {
      mac: `b8:27:eb:00:01:${i + 10}`,
      warnings: [`${code}, which waits, claims the same`],
    });
  }
  for (const keys of ["", "↓", "↓".repeat(40), "↓".repeat(90)]) {
    press(keys, 1);
    for (const height of [14, 24, 50]) {
      expect(lines(height).length).toBeLessThan(height);
      if (keys !== "") expect(lines(height).some((line) => line.startsWith(">"))).toBe(true);
    }
  }
  expect(lines().join("\n")).toContain("above");
});

test("a lost connection keeps what is typed for a device, until it asks again", () => {
  asks("1", "PG2WB-J9NS3");
  press("↓⏎alab-");
  expect(lines().at(-1)).toEndWith("server chooses): lab-");
  table.lost();
  screen.lost();
  expect(lines()).toEqual([]);
  // Another device is no reason to go on with the form of the first one.
  asks("2", "7KQ2M-X9ABC");
  expect(lines().at(-1)).toEndWith("(or deny CODE): ");
  asks("3", "PG2WB-J9NS3", { fingerprint: "SHA256:1" });
  expect(lines().at(-1)).toEndWith("server chooses): lab-");
  // Keys of the moment in which it comes back are for what was there before.
  expect(press("x", 10)).toEqual([]);
  expect(answers(press("8⏎⏎"))).toEqual([{ id: "3", fingerprint: "SHA256:1", accept: true, name: "lab-8" }]);
});

test("a lost connection keeps the beginning of a code; a request that is withdrawn does not", () => {
  asks("1", "PG2WB-J9NS3");
  press("pg");
  table.lost();
  screen.lost();
  table.settle(now);
  asks("2", "PG2WB-J9NS3", { fingerprint: "SHA256:1" });
  expect(lines().at(-1)).toEndWith("(or deny CODE): pg");
  gone("2");
  asks("3", "PG2WB-J9NS3", { fingerprint: "SHA256:1" });
  expect(lines().at(-1)).toEndWith("(or deny CODE): ");
});
