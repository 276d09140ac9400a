import { expect, test } from "bun:test";
import { type Taker, Turns } from "../../../src/tunnel/send/turns.ts";

const lane = (inFlight: number, more: Partial<Taker> = {}): Taker => ({
  ...{ ready: true, inFlight, overdue: false, silent: false },
  ...more,
});

function turns(...lanes: Taker[]): Turns {
  const made = new Turns();
  for (const one of lanes) made.add(one);
  return made;
}

test("the lane with the least in flight takes the next frame, and those that have little more", () => {
  const [a, b, c] = [lane(0), lane(10_000), lane(20_000)];
  const all = turns(a, b, c);
  expect([a, b, c].map((one) => all.has(one, 0))).toEqual([true, true, false]);
  expect([all.has(a, 14_000), all.has(a, 15_000)]).toEqual([true, true]);
  expect([all.has(a, 24_000), all.has(a, 25_000), all.has(b, 5000)]).toEqual([true, false, false]);
});

test("nobody waits for a lane that can take nothing, or whose acknowledgements are overdue", () => {
  for (const other of [{ ready: false }, { overdue: true }]) {
    const a = lane(50_000);
    expect(turns(a, lane(0, other)).has(a, 0)).toBe(true);
  }
});

test("a lane whose acknowledgements are overdue leaves frames to the others, if one can take them", () => {
  const late = lane(0, { overdue: true });
  expect(turns(late, lane(50_000)).has(late, 0)).toBe(false);
  expect(turns(late, lane(50_000, { ready: false })).has(late, 0)).toBe(true);
  expect(turns(late).has(late, 0)).toBe(true);
});

test("they are silent when each of them is", () => {
  const silent = lane(1, { silent: true });
  expect([turns().silent, turns(silent).silent, turns(silent, silent).silent]).toEqual([false, true, true]);
  expect(turns(silent, lane(1)).silent).toBe(false);
});

test("a lane that is removed takes no turns", () => {
  const [a, b] = [lane(50_000), lane(0)];
  const all = turns(a, b);
  all.remove(b);
  expect([all.count, all.has(a, 0)]).toEqual([1, true]);
});
