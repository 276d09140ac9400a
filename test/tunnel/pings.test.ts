/** PINGs: what their answers tell of the path, time given by the test. */

import { expect, test } from "bun:test";
import { Pings } from "../../src/tunnel/pings.ts";

/** PINGs two seconds apart, each answered after so many ms; undefined: not at all. Returns the time after the last. */
function play(pings: Pings, rtts: readonly (number | undefined)[], start = 1000): number {
  let now = start;
  for (const rtt of rtts) {
    const stamp = pings.send(now, true);
    if (rtt !== undefined) pings.answered(stamp, now + rtt);
    now += 2000;
  }
  return now;
}

test("the round trip time is that of the PING that is answered, also of one that was overtaken", () => {
  const pings = new Pings();
  const first = pings.send(1000.25, true);
  const second = pings.send(1020.5, true);
  expect(first).toBe(1_000_250);
  expect(pings.answered(first, 1100.25)).toBe(100);
  expect(pings.answered(second, 1120.5)).toBe(100);
  expect(pings).toMatchObject({ count: 2, late: 0, loss: 0 });
});

test("an answer counts once, and only to what was asked", () => {
  const pings = new Pings();
  const stamp = pings.send(1000, true);
  expect(pings.answered(stamp + 1, 1010)).toBeUndefined();
  expect(pings.answered(0, 1010)).toBeUndefined();
  expect(pings.answered(0xffff_ffff_ffff, 1010)).toBeUndefined();
  expect(pings.answered(stamp, 1010)).toBe(10);
  expect(pings.answered(stamp, 1020)).toBeUndefined();
  expect(pings.count).toBe(1);
});

test("a path that repeats what it lost shows: late is more than one least round trip and 150 ms, and than two", () => {
  const near = new Pings();
  play(near, [40, 41, 189, 40, 191, 40, 240, 45, 40, 40]);
  expect(near).toMatchObject({ count: 10, late: 2, loss: 0.2 });
  const far = new Pings();
  play(far, [300, 460, 590, 610]);
  expect(far).toMatchObject({ count: 4, late: 1 });
});

test("the first one is not late, whatever it takes: nothing is known of the path yet", () => {
  const pings = new Pings();
  play(pings, [900]);
  expect(pings).toMatchObject({ count: 1, late: 0 });
});

test("one that is not answered is late as soon as the next is sent after its time", () => {
  const pings = new Pings();
  play(pings, [40, undefined, undefined, 40]);
  expect(pings).toMatchObject({ count: 4, late: 2 });
});

test("a path slower than the pause between two PINGs is measured, and not late", () => {
  const pings = new Pings();
  const stamps = [1000, 3000, 5000].map((now) => pings.send(now, true));
  expect(stamps.map((stamp, i) => pings.answered(stamp, 3500 + 2000 * i))).toEqual([2500, 2500, 2500]);
  expect(pings).toMatchObject({ count: 3, late: 0 });
});

test("while nothing is answered at all, those that are pushed out count", () => {
  const pings = new Pings();
  play(pings, Array<undefined>(20).fill(undefined));
  expect(pings).toMatchObject({ count: 12, late: 12, loss: 1 });
});

test("PINGs of a probe measure the round trip, and are not judged", () => {
  const pings = new Pings();
  play(pings, [40]);
  const stamp = pings.send(3000, false);
  pings.send(3020, false);
  expect(pings.answered(stamp, 3500)).toBe(500);
  pings.send(9000, true);
  expect(pings.count).toBe(1);
});

test("what was long ago is forgotten: the share is of the last minutes, and a path that became longer is not late for ever", () => {
  const pings = new Pings();
  let now = play(pings, Array<number>(64).fill(10));
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 96, late: 32, loss: 1 / 3 });
  // The least round trip of 10 ms is in force until a whole span had no such answer.
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 128, late: 64, loss: 1 });
  now = play(pings, Array<number>(32).fill(200), now);
  expect(pings).toMatchObject({ count: 160, late: 64, loss: 2 / 3 });
  play(pings, Array<number>(32).fill(200), now);
  expect(pings.loss).toBe(0);
});
