/** A device's report: bounded and printable, whatever it was made of. */

import { expect, test } from "bun:test";
import { MAX_ERRORS, MAX_REPORT, parseReport, printReport, type Report } from "../../src/control/report.ts";

/** A report without any facts: the shape of all others. */
const NOTHING = parseReport({});

/** Fill every leaf of a report: texts with `text`, numbers and flags by their names. */
function filled(text: string): unknown {
  const long = text.repeat(1000);
  const at = "2026-11-27T03:21:55.123Z";
  const many = <T>(one: T): T[] => Array.from({ length: 100 }, () => one);
  return {
    at,
    stage: long,
    detail: long,
    vm: {
      state: long,
      dhcp: { address: long, name: long },
      lastEnd: { at, kind: long, reason: long, exitCode: 255, signal: long, ran: 3.2e9 },
    },
    usb: many({ port: long, id: long, name: long }),
    temperature: -99.9,
    power: { underVoltage: false, underVoltageBefore: false, throttled: false, throttledBefore: false },
    load: { one: 999_999.99, five: 999_999.99, fifteen: 999_999.99 },
    memory: { total: Number.MAX_SAFE_INTEGER, available: Number.MAX_SAFE_INTEGER },
    disk: { size: Number.MAX_SAFE_INTEGER, free: Number.MAX_SAFE_INTEGER, errors: Number.MAX_SAFE_INTEGER },
    uptime: { board: 3.2e9, supervisor: 3.2e9 },
    versions: { walt: long, kernel: long, base: long },
    entrypoints: { used: long, others: many(long) },
    board: { mac: long, serialNumber: long },
    link: { interface: long, speed: 1e6 },
    clock: { synchronised: false, error: 3.2e12 },
    refusal: { at, reason: long },
    doctor: { at, fault: long },
    settings: { set: many(long), trial: { id: long, by: long, outcome: long, reason: long } },
    errors: many({ at, text: long }),
  };
}

/** All leaves of a value. */
function leaves(value: unknown): unknown[] {
  if (typeof value !== "object" || value === null) return [value];
  return Object.values(value).flatMap(leaves);
}

test("what is missing is null, and every field has its place", () => {
  expect(new Set(leaves(NOTHING))).toEqual(new Set([null]));
  const full = parseReport(filled("x"));
  expect(leaves(full)).not.toContain(null); // so that the bound below is one of all fields
  expect(Object.keys(full)).toEqual(Object.keys(NOTHING));
});

test.each(["x", '"', "\\", "ü", "€", "\u{1f642}", "\u001b", "\n", "\u2028", "\ud800"])(
  "however long its texts are (of %j), it is printed in at most MAX_REPORT bytes, without anything unsafe, and parsed again",
  (text) => {
    const printed = printReport(filled(text) as Report);
    expect(Buffer.byteLength(printed)).toBeLessThanOrEqual(MAX_REPORT);
    expect(printed).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    expect(JSON.stringify(parseReport(JSON.parse(printed)))).toBe(printed);
  },
);

test("fields of another version: unknown ones are ignored, and those of another type are null", () => {
  const { vm, usb, temperature, errors, load } = parseReport({
    vm: "running",
    usb: [{ port: 7, id: "0781:5567", name: "Stick\u001b[2J" }, null],
    temperature: "hot",
    load: { one: Number.NaN, five: -1, fifteen: 0.123 },
    errors: { at: 1 },
    colour: "red",
  });
  expect(vm).toEqual(NOTHING.vm);
  expect(usb).toEqual([
    { port: null, id: "0781:5567", name: "Stick?[2J" },
    { port: null, id: null, name: null },
  ]);
  expect([temperature, errors]).toEqual([null, null]);
  expect(load).toEqual({ one: null, five: null, fifteen: 0.12 });
  expect(parseReport({ colour: "red" })).toEqual(NOTHING);
});

test("a list is cut, and so is a text, which then says so", () => {
  const { errors, stage } = parseReport(filled("x"));
  expect(errors).toHaveLength(MAX_ERRORS);
  expect(stage).toBe(`${"x".repeat(39)}…`);
});

test.each([[null], ["text"], [[]], [7]])("%p is no report", (value) => {
  expect(() => parseReport(value)).toThrow("a report must be an object");
});
