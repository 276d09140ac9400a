import { expect, test } from "bun:test";
import { Neighbour } from "../../../src/tunnel/send/neighbour.ts";

const ROUNDS = 100;

/** Tell of a path that is empty at first, and then has a longer round trip time; `rate` as in take(). */
function longer(rate: (beside: boolean, round: number) => number): { seen: boolean[]; neighbour: Neighbour } {
  const neighbour = new Neighbour();
  for (let i = 0; i < 9; i++) neighbour.ping(40, 2000 * i);
  neighbour.judge(40, 5);
  expect(neighbour.present).toBe(false);
  neighbour.judge(120, 5);
  const seen: boolean[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    neighbour.take(rate(neighbour.present, i), 120);
    seen.push(neighbour.present);
  }
  return { seen, neighbour };
}

test("more in flight brings more: a queue of somebody else stands there", () => {
  const { seen, neighbour } = longer((beside) => (beside ? 600 : 400));
  expect(seen.indexOf(true)).toBe(7);
  expect(seen.slice(7)).not.toContain(false);
  neighbour.judge(110, 5);
  expect(neighbour.present).toBe(true);
  neighbour.judge(45, 5);
  expect(neighbour.present).toBe(false);
});

test("more in flight brings no more: the path is longer, and stays so", () => {
  const { seen, neighbour } = longer(() => 400);
  expect(seen.slice(24)).not.toContain(true);
  neighbour.judge(125, 5);
  for (let i = 0; i < ROUNDS; i++) neighbour.take(400, 125);
  expect(neighbour.present).toBe(false);
  // Somebody begins to send on the longer path.
  neighbour.judge(250, 5);
  for (let i = 0; i < ROUNDS; i++) neighbour.take(neighbour.present ? 300 : 200, 250);
  expect(neighbour.present).toBe(true);
});

test("a window that was too small for the longer path grows before anything is compared", () => {
  const { seen } = longer((_, round) => 400 * Math.min(1, 1.3 ** (round - 15)));
  expect(seen.slice(0, 15)).not.toContain(true);
  expect(seen.slice(48)).not.toContain(true);
});

test("single PINGs that are fast do not make a path that jitters look longer", () => {
  const neighbour = new Neighbour();
  for (let i = 0; i < 30; i++) neighbour.ping(i % 3 === 0 ? 42 : 100, 2000 * i);
  neighbour.judge(90, 5);
  for (let i = 0; i < ROUNDS; i++) neighbour.take(neighbour.present ? 600 : 400, 90);
  expect(neighbour.present).toBe(false);
});

test("what was least more than ten minutes ago does not count", () => {
  const neighbour = new Neighbour();
  neighbour.round(40, 0);
  neighbour.round(120, 301_000);
  neighbour.round(120, 603_000);
  neighbour.judge(120, 5);
  for (let i = 0; i < ROUNDS; i++) neighbour.take(neighbour.present ? 600 : 400, 120);
  expect(neighbour.present).toBe(false);
});
