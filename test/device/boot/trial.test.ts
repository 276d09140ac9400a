/** New settings are tried: kept when a tunnel comes up with them, taken back when none does, or at a power cut. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Changes, NO_SETTINGS, type Settings } from "../../../src/config/settings.ts";
import { Trials } from "../../../src/device/boot/trial.ts";
import { readSettings, type TrialOutcome, writeSettings } from "../../../src/device/settings.ts";
import { WaltError } from "../../../src/errors.ts";
import { eventually } from "../../lab/eventually.ts";

const NEW: Changes = { values: { mtu: 1500 }, hostKeys: [] };
let folder: string;
let file: string;
let used: Settings[];
let outcomes: TrialOutcome["outcome"][];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "walt-trial-"));
  file = join(folder, "settings.json");
  used = [];
  outcomes = [];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function trials(more: Partial<Trials["o"]> = {}): Trials {
  return new Trials({
    kept: readSettings(file, (why) => expect(why).toBe("")),
    check: () => {},
    use: (settings) => void used.push(settings),
    write: (settings) => writeSettings(file, settings),
    lastError: () => "gate does not answer",
    failed: (error) => expect(error).toBeUndefined(),
    changed: ({ outcome }) => void outcomes.push(outcome),
    ...more,
  });
}

const stored = (): Settings => readSettings(file, (why) => expect(why).toBe(""));

test("a tunnel comes up: the settings are kept, on the disk as well", () => {
  const one = trials();
  const { id, begin } = one.prepare(NEW, "alice", 60_000);
  expect(used).toEqual([]);
  begin();
  expect(used).toEqual([{ values: { mtu: 1500 }, hostKeys: [] }]);
  expect(stored()).toEqual(NO_SETTINGS); // a power cut now brings the old ones back
  one.tunnelUp();
  expect(one.last).toEqual({ id, by: "alice", outcome: "kept", reason: "" });
  expect(stored()).toEqual({ values: { mtu: 1500 }, hostKeys: [] });
  expect(trials().kept.values).toEqual({ mtu: 1500 });
  one.tunnelUp(); // a later tunnel changes nothing
  expect(outcomes).toEqual(["trying", "kept"]);
});

test("no tunnel in time: the old ones are back, with the reason", async () => {
  const one = trials();
  one.prepare(NEW, "alice", 1).begin();
  await eventually("the end of the trial", () => one.last?.outcome === "reverted");
  expect(one.last?.reason).toBe("no tunnel came up within 0 s: gate does not answer");
  expect(used).toEqual([{ values: { mtu: 1500 }, hostKeys: [] }, NO_SETTINGS]);
  one.tunnelUp();
  expect(stored()).toEqual(NO_SETTINGS);
});

test("settings that cannot be written, or used, are taken back", () => {
  const full = (): never => {
    throw new WaltError("no space");
  };
  const one = trials({ write: full });
  one.prepare(NEW, "alice", 60_000).begin();
  one.tunnelUp();
  expect(one.last).toMatchObject({ outcome: "reverted", reason: "they cannot be written: no space" });
  expect(used.at(-1)).toEqual(NO_SETTINGS);

  const two = trials({ use: (settings) => (settings === NO_SETTINGS ? undefined : full()) });
  two.prepare(NEW, "alice", 60_000).begin();
  expect(two.last).toMatchObject({ outcome: "reverted", reason: "no space" });
});

test("one trial at a time, and none with settings that are refused", () => {
  const one = trials({
    check: ({ values }) => {
      if (values.mtu === 9000) throw new WaltError("not so");
    },
  });
  one.prepare(NEW, "alice", 60_000).begin();
  expect(() => one.prepare(NEW, "bob", 60_000)).toThrow("settings of alice are being tried");
  one.stop();
  expect(() => one.prepare({ ...NEW, values: { mtu: 9000 } }, "bob", 60_000)).toThrow("not so");
});

test("a damaged file is told, and nothing is set", () => {
  for (const text of [
    "",
    "{",
    '{"values":{"mtu":1},"hostKeys":[]}',
    '{"values":[]}',
    "null",
    "x".repeat(70_000),
  ]) {
    writeFileSync(file, text);
    let told = "";
    expect(readSettings(file, (why) => (told = why))).toEqual(NO_SETTINGS);
    expect(told).not.toBe("");
  }
});
