/** PINGs: what their answers tell of the path, time given by the test. */

import { expect, test } from "bun:test";
import { Pings } from "../../src/tunnel/pings.ts";

/**
 * PINGs two seconds apart, each answered after so many ms (undefined: never). Returns the time after the
 * last.
 */
function play(pings: Pings, rtts: readonly (number | undefined)[], start = 1000): number {
  let now = start;
  for (const rtt of rtts) {
    const stamp = pings.send(now);
    if (rtt !== undefined) pings.answered(stamp, now + rtt);
    now += 2000;
  }
  return now;
}

test("the round trip time is that of the answered PING, also if its answer was overtaken", () => {
  const pings = new Pings();
  const first = pings.send(1000.25);
  const second = pings.send(1020.5);
  expect(first).toBe(1_000_250);
  expect(pings.answered(first, 1100.25)).toBe(100);
  expect(pings.answered(second, 1120.5)).toBe(100);
  expect(pings).toMatchObject({ count: 2, late: 0, loss: 0 });
});

test("an answer counts once, and only if its PING was sent", () => {
  const pings = new Pings();
  const stamp = pings.send(1000);
  expect(pings.answered(stamp + 1, 1010)).toBeUndefined();
  expect(pings.answered(0, 1010)).toBeUndefined();
  expect(pings.answered(0xffff_ffff_ffff, 1010)).toBeUndefined();
  expect(pings.answered(stamp, 1010)).toBe(10);
  expect(pings.answered(stamp, 1020)).toBeUndefined();
  expect(pings.count).toBe(1);
});

test("late is longer than the least round trip time + 150 ms, and longer than twice that time", () => {
  const near = new Pings();
  play(near, [40, 41, 189, 40, 191, 40, 240, 45, 40, 40]);
  expect(near).toMatchObject({ count: 10, late: 2, loss: 0.2 });
  const far = new Pings();
  play(far, [300, 460, 590, 610]);
  expect(far).toMatchObject({ count: 4, late: 1 });
});

test("the first PING is never late: nothing is known of the path yet", () => {
  const pings = new Pings();
  play(pings, [900]);
  expect(pings).toMatchObject({ count: 1, late: 0 });
});

test("a PING without answer counts as late when the next one is sent after its limit", () => {
  const pings = new Pings();
  play(pings, [40, undefined, undefined, 40]);
  expect(pings).toMatchObject({ count: 4, late: 2 });
});

test("a round trip longer than the interval of PINGs is measured, and is not late", () => {
  const pings = new Pings();
  const stamps = [1000, 3000, 5000].map((now) => pings.send(now));
  expect(stamps.map((stamp, i) => pings.answered(stamp, 3500 + 2000 * i))).toEqual([2500, 2500, 2500]);
  expect(pings).toMatchObject({ count: 3, late: 0 });
});

test("if nothing is answered at all, the oldest PINGs count as late when new ones take their place", () => {
  const pings = new Pings();
  play(pings, Array<undefined>(20).fill(undefined));
  expect(pings).toMatchObject({ count: 12, late: 12, loss: 1 });
});

test("old PINGs are forgotten, and a path that became longer is not late for ever", () => {
  const pings = new Pings();
  let now = play(pings, Array<number>(64).fill(10));
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 96, late: 32, loss: 1 / 3 });
  // The least round trip time of 10 ms counts until a whole span had no such answer.
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 128, late: 64, loss: 1 });
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 160, late: 64, loss: 2 / 3 });
  play(pings, Array<number>(32).fill(200), now);
  expect(pings.loss).toBe(0);
});
