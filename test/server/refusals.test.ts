/** Certificates that proxies refused: each refusal that a device reports is told once. */

import { beforeEach, expect, test } from "bun:test";
import type { JournalEvent } from "../../src/api/journal.ts";
import { Refusals } from "../../src/server/refusals.ts";

const DEVICE = { id: 1, node: "lab-1" };
const refusal = (minute: number) => ({
  at: `2026-03-01T12:0${minute}:00.000Z`,
  reason: "gate:22: it does not accept our key",
});
let events: JournalEvent[];
let told: string[];
beforeEach(() => {
  events = [];
  told = [];
});

function refusals(): Refusals {
  const journal = {
    events: () => events,
    ofDevice: ({ kind, details = {} }: { kind: string; details?: object }) =>
      void events.push({
        ...{ id: events.length + 1, at: "2026-03-01T12:00:00.000Z", kind, node: "lab-1", by: null },
        details: details as JournalEvent["details"],
      }),
  };
  return new Refusals(journal, (_, reason) => void told.push(reason));
}

test("no refusal is nothing; one is told once, however often it is reported, and a later one again", () => {
  const all = refusals();
  all.told(DEVICE, { at: null, reason: null });
  for (const minute of [1, 1, 1, 2, 2]) all.told(DEVICE, refusal(minute));
  expect(told).toHaveLength(2);
  expect(all.count(DEVICE)).toBe(2);
  expect(events.map(({ kind, details }) => [kind, details["at"]])).toEqual([
    ["certificate-refused", refusal(1).at],
    ["certificate-refused", refusal(2).at],
  ]);
});

test("one that the journal has is not told again after a restart", () => {
  refusals().told(DEVICE, refusal(1));
  const again = refusals();
  again.told(DEVICE, refusal(1));
  expect(told).toHaveLength(1);
  again.told(DEVICE, refusal(3));
  expect(told).toHaveLength(2);
});
