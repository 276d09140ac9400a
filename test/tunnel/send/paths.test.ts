/**
 * The window on bad links, simulated: its goodput against that of a plain loop, and how long a PING waits
 * under bulk. The same seeds give the same numbers; the bounds are a little wider than those.
 */

import { expect, test } from "bun:test";
import { Window } from "../../../src/tunnel/send/window.ts";
import { pathModel } from "./paths/models.ts";
import { fixedWindow, simulate } from "./paths/simulation.ts";

const SEEDS = [1, 2, 3] as const;

/** The 99th percentile. */
const p99 = (sorted: readonly number[]): number => sorted[Math.floor(0.99 * sorted.length)] ?? Number.NaN;

/** Means of all seeds. @param inner the frames are those of a TCP flow that begins anew every so many ms. */
function measure(name: string, inner?: number): { goodput: number; wait: number } {
  const runs = SEEDS.map((seed) => {
    const path = pathModel(name, seed);
    const flow = inner === undefined ? {} : { inner };
    const o = { seed, ms: 15_000, from: 2000, way: "up" as const, ...flow };
    const idle = simulate(path, o);
    const plain = simulate(path, { ...o, window: fixedWindow(2 << 20) });
    const ours = simulate(path, { ...o, window: new Window() });
    return { goodput: ours.goodput / plain.goodput, wait: p99(ours.pings) / p99(idle.pings) };
  });
  const mean = (of: (run: (typeof runs)[number]) => number): number =>
    runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  return { goodput: mean(({ goodput }) => goodput), wait: mean(({ wait }) => wait) };
}

test.each([
  // path, least goodput against a plain loop, longest p99 of a PING against the idle path's
  ["20mbit", 0.95, 1.45],
  ["jitter-10", 0.9, 1.5],
  ["jitter-20", 0.9, 1.5],
  ["jitter-40", 0.8, 1.6],
  ["burst-5", 0.95, 1.5],
  ["burst-20", 0.65, 1.6],
  ["pauses-40", 0.9, 1.4],
  ["busy", 0.9, 1.5],
  ["sine", 0.95, 2.5],
  ["steps", 0.9, 4.5],
  ["outage-0.5", 0.95, 1.3],
  ["outage-3", 0.8, 1.2],
  ["policer", 1, 3],
  ["long", 3, 1.2],
  ["loss-3", 0.75, 2],
] as const)(
  "%s: goodput at least %d of a plain loop's, a PING waits at most %d times as long",
  (name, least, most) => {
    const { goodput, wait } = measure(name);
    expect(goodput).toBeGreaterThanOrEqual(least);
    expect(wait).toBeLessThanOrEqual(most);
  },
);

test("jitter that is as long as the round trip does not make the window spiral down under a TCP flow", () => {
  // A window made for the least round trip time gets 0.74 here, and on a real wire a tenth.
  const { goodput, wait } = measure("jitter-40", 4000);
  expect(goodput).toBeGreaterThanOrEqual(0.85);
  expect(wait).toBeLessThanOrEqual(1.7);
});
