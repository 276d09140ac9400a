/**
 * When a device examines itself: not at every failure, not while another look is under way, never once it
 * is up.
 */

import { expect, test } from "bun:test";
import type { Diagnosis } from "../../../src/api/diagnosis.ts";
import { SelfExamination } from "../../../src/device/doctor/self-examination.ts";
import type { Log } from "../../../src/log.ts";
import { turn } from "../../lab/eventually.ts";

type Seen = Parameters<SelfExamination["see"]>[0];
const FAILING: Seen = { tunnel: "connecting", stage: "proxies", failures: 2 };
const ONCE: Seen = { ...FAILING, failures: 1 };
const NO_NETWORK: Seen = { tunnel: "down", stage: "network", failures: 0 };
const UP: Seen = { tunnel: "up", stage: "watch", failures: 0 };
const BAD: Diagnosis = {
  at: "2026-12-01T12:00:00.000Z",
  findings: [
    { check: "card", of: "", is: "ok", note: "" },
    { check: "address", of: "", is: "fault", what: "no address", evidence: "eth0", cure: "DHCP" },
    { check: "disk", of: "", is: "fault", what: "full", evidence: "0 B", cure: "rm" },
  ],
};

function setup() {
  let now = 0;
  const timers = new Map<() => void, number>();
  const signals: AbortSignal[] = [];
  const lines: string[] = [];
  let ends = Promise.withResolvers<Diagnosis>();
  const add = (text: string, fields: object): void => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log: Log = { debug() {}, info: add, warn: add, error: add, with: () => log };
  const self = new SelfExamination({
    examine: (signal) => {
      signals.push(signal);
      signal.addEventListener("abort", () => ends.resolve({ ...BAD, findings: [] }));
      return ends.promise;
    },
    log,
    now: () => now,
    after: (ms, what) => {
      timers.set(what, now + ms);
      return () => timers.delete(what);
    },
  });
  return {
    self,
    signals,
    lines,
    /** ms until the next examination; undefined if none is planned. */
    next: () => [...timers.values()].map((at) => at - now)[0],
    pass: (ms: number) => {
      now += ms;
      for (const [what, at] of [...timers]) if (at <= now && timers.delete(what)) what();
    },
    end: async (diagnosis: Diagnosis) => {
      ends.resolve(diagnosis);
      await turn();
      ends = Promise.withResolvers();
    },
  };
}

test("after the second failure in a row, at once; the first fault is kept and logged", async () => {
  const { self, next, pass, signals, end, lines } = setup();
  self.see(ONCE);
  expect(next()).toBeUndefined();
  self.see(FAILING);
  expect(next()).toBe(0);
  pass(0);
  expect(signals).toHaveLength(1);
  expect(self.diagnosis).toBeUndefined();
  await end(BAD);
  expect(self.diagnosis).toEqual(BAD);
  expect(lines).toEqual([
    'no address {"event":"doctor","check":"address","evidence":"eth0","cure":"DHCP","more":"disk"}',
  ]);
});

test("without a network after a while, and sooner if failures come", () => {
  const { self, next } = setup();
  self.see(NO_NETWORK);
  expect(next()).toBe(15_000);
  self.see({ ...NO_NETWORK, failures: 2 });
  expect(next()).toBe(0);
});

test("not once the network came in time", () => {
  const { self, pass, signals } = setup();
  self.see(NO_NETWORK);
  self.see({ ...ONCE, failures: 0 });
  pass(15_000);
  expect(signals).toEqual([]);
});

test("again after five minutes at the earliest, and never two at once", async () => {
  const { self, next, pass, signals, end } = setup();
  self.see(FAILING);
  pass(0);
  for (const failures of [3, 4, 5]) self.see({ ...FAILING, failures });
  expect([next(), signals.length]).toEqual([undefined, 1]);
  pass(10_000);
  await end(BAD);
  expect(next()).toBe(290_000);
  pass(290_000);
  expect(signals).toHaveLength(2);
});

test("the tunnel ends the look, and takes the finding away; a half one is not kept", async () => {
  const { self, next, pass, signals, end, lines } = setup();
  self.see(FAILING);
  pass(0);
  await end(BAD);
  self.see(UP);
  expect([self.diagnosis, next()]).toEqual([undefined, undefined]);
  self.see(FAILING);
  pass(300_000);
  self.see(UP);
  expect(signals.map(({ aborted }) => aborted)).toEqual([false, true]);
  await turn();
  expect([self.diagnosis, lines.length]).toEqual([undefined, 1]);
});

test("a stop ends the look, is awaited, and nothing begins after it", async () => {
  const { self, next, pass, signals } = setup();
  self.see(FAILING);
  pass(0);
  await self.stop();
  expect(signals[0]?.aborted).toBe(true);
  self.see(FAILING);
  expect(next()).toBeUndefined();
});
