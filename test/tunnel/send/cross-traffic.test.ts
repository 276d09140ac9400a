import { expect, test } from "bun:test";
import { CrossTraffic } from "../../../src/tunnel/send/cross-traffic.ts";

const ROUNDS = 100;

/** Tell of a path that is empty at first, and then has a longer round trip time; `rate` as in take(). */
function longer(rate: (beside: boolean, round: number) => number): {
  seen: boolean[];
  traffic: CrossTraffic;
} {
  const traffic = new CrossTraffic();
  for (let i = 0; i < 9; i++) traffic.ping(40, 2000 * i);
  traffic.judge(40, 5);
  expect(traffic.present).toBe(false);
  traffic.judge(120, 5);
  const seen: boolean[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    traffic.take(rate(traffic.present, i), 120);
    seen.push(traffic.present);
  }
  return { seen, traffic };
}

test("more in flight brings more: a queue of somebody else stands there", () => {
  const { seen, traffic } = longer((beside) => (beside ? 600 : 400));
  expect(seen.indexOf(true)).toBe(7);
  expect(seen.slice(7)).not.toContain(false);
  traffic.judge(110, 5);
  expect(traffic.present).toBe(true);
  traffic.judge(45, 5);
  expect(traffic.present).toBe(false);
});

test("more in flight brings no more: the path is longer, and stays so", () => {
  const { seen, traffic } = longer(() => 400);
  expect(seen.slice(24)).not.toContain(true);
  traffic.judge(125, 5);
  for (let i = 0; i < ROUNDS; i++) traffic.take(400, 125);
  expect(traffic.present).toBe(false);
  // Somebody begins to send on the longer path.
  traffic.judge(250, 5);
  for (let i = 0; i < ROUNDS; i++) traffic.take(traffic.present ? 300 : 200, 250);
  expect(traffic.present).toBe(true);
});

test("a window that was too small for the longer path grows before anything is compared", () => {
  const { seen } = longer((_, round) => 400 * Math.min(1, 1.3 ** (round - 15)));
  expect(seen.slice(0, 15)).not.toContain(true);
  expect(seen.slice(48)).not.toContain(true);
});

test("single PINGs that are fast do not make a path that jitters look longer", () => {
  const traffic = new CrossTraffic();
  for (let i = 0; i < 30; i++) traffic.ping(i % 3 === 0 ? 42 : 100, 2000 * i);
  traffic.judge(90, 5);
  for (let i = 0; i < ROUNDS; i++) traffic.take(traffic.present ? 600 : 400, 90);
  expect(traffic.present).toBe(false);
});

test("what was least more than ten minutes ago does not count", () => {
  const traffic = new CrossTraffic();
  traffic.round(40, 0);
  traffic.round(120, 301_000);
  traffic.round(120, 603_000);
  traffic.judge(120, 5);
  for (let i = 0; i < ROUNDS; i++) traffic.take(traffic.present ? 600 : 400, 120);
  expect(traffic.present).toBe(false);
});
