/** When certificates are renewed, on a clock of the test's own: at the start, as the server says, and after failures. */

import { expect, test } from "bun:test";
import { Renewer } from "../../../src/device/identity/renewer.ts";

/** What one renewal does: the next one is due in so many ms, or it fails. */
type Outcome = number | Error;

/** A renewer that renews as `outcomes` say, one after the other; then it is stopped. */
function renewing(outcomes: readonly Outcome[]) {
  const stop = new AbortController();
  const waits: number[] = [];
  const troubles: string[] = [];
  let time = 1000;
  const renewer = new Renewer({
    now: () => time,
    sleep: async (ms) => {
      waits.push(ms);
      time += ms;
      if (waits.length > outcomes.length) stop.abort();
    },
  });
  let renewals = 0;
  const run = (): Promise<void> =>
    renewer.run(
      async () => {
        const outcome = outcomes[renewals++];
        if (outcome === undefined) throw new Error("nobody asked for this renewal");
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
      (why) => troubles.push(why),
      stop.signal,
    );
  return { renewer, run, waits, troubles, pass: (ms: number) => (time += ms), renewals: () => renewals };
}

test("the first certificate is fetched 2 s after the start, the next ones when the server says", async () => {
  const r = renewing([3_600_000, 60_000]);
  await r.run();
  expect(r.waits).toEqual([2000, 3_600_000, 60_000]);
  expect(r.renewals()).toBe(2);
  expect(r.troubles).toEqual([]);
});

test("time that passed before the tunnel was up counts, and what is overdue is done at once", async () => {
  const r = renewing([60_000]);
  r.pass(1500);
  r.renewer.schedule(10_000);
  r.pass(50_000);
  await r.run();
  expect(r.waits).toEqual([0, 60_000]);
});

test("a certificate that was given meanwhile puts the renewal off", async () => {
  const r = renewing([]);
  r.renewer.schedule(70_000);
  await r.run();
  expect(r.waits).toEqual([70_000]);
});

test("failures are told, each is waited for twice as long as the one before, up to ten minutes", async () => {
  const failures = Array.from({ length: 9 }, (_, i) => new Error(`failure ${i}`));
  const r = renewing(failures);
  await r.run();
  expect(r.troubles).toEqual(failures.map((_, i) => `the certificate was not renewed: failure ${i}`));
  const least = [5, 10, 20, 40, 80, 160, 320, 600, 600].map((seconds) => seconds * 1000);
  for (const [i, wait] of r.waits.slice(1).entries()) {
    // Up to a fifth longer, so that many devices do not come at once.
    expect(wait).toBeWithin(least[i] ?? 0, 1.2 * (least[i] ?? 0) + 1);
  }
});

test("after a success the next failure is waited for as the first one", async () => {
  const r = renewing([new Error("a"), new Error("b"), 60_000, new Error("c")]);
  await r.run();
  expect(r.waits[2]).toBeWithin(10_000, 12_001);
  expect(r.waits[3]).toBeCloseTo(60_000, 3);
  expect(r.waits[4]).toBeWithin(5000, 6001);
});

test("a time that no timer can wait for is cut to the longest", async () => {
  const r = renewing([10 * 365 * 86_400_000]);
  await r.run();
  expect(r.waits[1]).toBe(2 ** 31 - 1);
});

test("a stop ends it before the renewal, and during one without words", async () => {
  const early = renewing([]);
  await early.run();
  expect([early.renewals(), early.troubles]).toEqual([0, []]);
  const stop = new AbortController();
  const troubles: string[] = [];
  const renewer = new Renewer({ now: () => 0, sleep: async () => {} });
  const cut = async (): Promise<number> => {
    stop.abort();
    throw new Error("the connection was closed");
  };
  await renewer.run(cut, (why) => troubles.push(why), stop.signal);
  expect(troubles).toEqual([]);
});

test("when the next one is due is told as a date", () => {
  const { renewer, pass } = renewing([]);
  renewer.schedule(3_600_000);
  pass(600_000);
  const inMs = Date.parse(renewer.due) - Date.now();
  // The date is made of the machine's own clock, which goes on while we look.
  expect(inMs).toBeWithin(2_990_000, 3_000_001);
  pass(10_000_000);
  expect(Date.parse(renewer.due)).toBeLessThanOrEqual(Date.now());
});
