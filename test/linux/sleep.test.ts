/** Waits that an abort ends, and waits with a bound. */

import { expect, test } from "bun:test";
import { aborted, sleep, within } from "../../src/linux/sleep.ts";

const LONG = 1 << 30;

test("an abort ends a sleep, and an abort is awaited, also one from before", async () => {
  const stop = new AbortController();
  const waits = Promise.all([sleep(LONG, stop.signal), aborted(stop.signal)]);
  stop.abort();
  await waits;
  await Promise.all([sleep(LONG, stop.signal), aborted(stop.signal)]);
});

test("work within its time gives what it gives, and fails as it fails; beyond it, it is late", async () => {
  const late = new Error("late");
  expect(await within(LONG, Promise.resolve(7), late)).toBe(7);
  await expect(within(LONG, Promise.reject(new Error("broken")), late)).rejects.toThrow("broken");
  await expect(within(1, new Promise(() => {}), late)).rejects.toBe(late);
});
