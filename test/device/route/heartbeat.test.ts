/** Whether a proxy still answers, decided from words, echoes and the time alone. */

import { expect, test } from "bun:test";
import { Heartbeat } from "../../../src/device/route/heartbeat.ts";

function heartbeat(silence: number): Heartbeat {
  let n = 0;
  return new Heartbeat(silence, () => `word-${++n}`);
}

test("a word that comes back is an echo, once; anything else is none", () => {
  const h = heartbeat(10_000);
  const word = h.beat(0);
  expect(h.receive("Welcome to this machine!", 10)).toBeUndefined();
  expect(h.receive(word, 20)).toBe(20);
  expect(h.receive(word, 21)).toBeUndefined();
});

test("a proxy is overdue when nothing came back for the silence, from the first word on", () => {
  const h = heartbeat(10_000);
  expect(h.overdue(50_000)).toBeUndefined();
  h.beat(1000);
  expect(h.overdue(11_000)).toBeUndefined();
  expect(h.overdue(11_001)).toBe(10_001);
});

test("each echo starts the silence anew, also a late one", () => {
  const h = heartbeat(10_000);
  const first = h.beat(0);
  h.beat(5000);
  h.receive(first, 9000);
  expect(h.overdue(19_000)).toBeUndefined();
  expect(h.overdue(19_001)).toBe(10_001);
});

test("several words fit into a short silence", () => {
  expect(heartbeat(3000).interval).toBe(1000);
  expect(heartbeat(300_000).interval).toBe(5000);
});

test("words that never come back are forgotten", () => {
  const h = heartbeat(10_000);
  const first = h.beat(0);
  for (let i = 1; i <= 64; i++) h.beat(i);
  expect(h.receive(first, 20)).toBeUndefined();
});
