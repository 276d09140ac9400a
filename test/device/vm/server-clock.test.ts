/** The virtual machine's time of day is the server's, from when it is told. */

import { expect, test } from "bun:test";
import { ServerClock } from "../../../src/device/vm/server-clock.ts";

const SIGNAL = new AbortController().signal;

test("the server's time goes on", async () => {
  let now = 1000;
  const clock = new ServerClock(() => now);
  clock.tell(Date.UTC(2026, 10, 27, 12));
  now += 90_000;
  expect(await clock.time(SIGNAL)).toEqual(new Date("2026-11-27T12:01:30Z"));
});

test("it is waited for, but not for ever", async () => {
  const clock = new ServerClock(() => 0);
  expect(await clock.time(SIGNAL, 0)).toBeUndefined();
  expect(await clock.time(AbortSignal.abort())).toBeUndefined();
  const time = clock.time(SIGNAL);
  clock.tell(5000);
  expect(await time).toEqual(new Date(5000));
});
