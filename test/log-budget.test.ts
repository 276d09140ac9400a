/** Lines of the log that strangers cause are bounded, for each source and for all together. */

import { expect, test } from "bun:test";
import { FirstOfKind, LogBudget, SOURCES } from "../src/log-budget.ts";
import { TokenBucket } from "../src/token-bucket.ts";

const limits = { source: { burst: 3, perSecond: 1 }, all: { burst: 10, perSecond: 2 } };
const taken = (budget: LogBudget, source: string, now: number, tries: number): number =>
  Array.from({ length: tries }, () => budget.take(source, now)).filter((before) => before !== undefined)
    .length;

test("a bucket gives its burst at once, and then its rate, never more than the burst", () => {
  const bucket = new TokenBucket({ burst: 2, perSecond: 4 }, 1000);
  const takes = (now: number) => Array.from({ length: 5 }, () => bucket.take(now)).filter(Boolean).length;
  expect(takes(1000)).toBe(2);
  expect(takes(1249)).toBe(0);
  expect(takes(1250)).toBe(1);
  expect(takes(900)).toBe(0); // a clock that goes backwards gives nothing
  expect(takes(1_000_000)).toBe(2);
});

test("one source gets its burst and then its rate, and takes nothing from the others", () => {
  const budget = new LogBudget(limits, 0);
  expect(taken(budget, "a", 0, 1000)).toBe(3);
  expect(taken(budget, "b", 0, 2)).toBe(2);
  expect(taken(budget, "a", 2000, 1000)).toBe(2);
});

test("all sources together get their burst and then their rate", () => {
  const budget = new LogBudget(limits, 0);
  let written = 0;
  for (let i = 0; i < 5000; i++) written += taken(budget, `source ${i}`, i * 2, 1);
  expect(written).toBeGreaterThanOrEqual(10 + 18);
  expect(written).toBeLessThanOrEqual(10 + 20);
});

test("what all together refuse costs a source nothing of its own", () => {
  const budget = new LogBudget({ source: { burst: 2, perSecond: 0 }, all: { burst: 1, perSecond: 1 } }, 0);
  expect(taken(budget, "a", 0, 5)).toBe(1);
  expect(taken(budget, "a", 1000, 5)).toBe(1);
});

test("lines that were left out are counted once", () => {
  const budget = new LogBudget(limits, 0);
  taken(budget, "a", 0, 10);
  expect(budget.leftOut()).toBe(7);
  expect(budget.leftOut()).toBe(0);
});

test("of many sources the one not heard of for longest is forgotten", () => {
  const budget = new LogBudget({ source: { burst: 1, perSecond: 0 }, all: { burst: 1e9, perSecond: 0 } }, 0);
  expect(taken(budget, "first", 0, 2)).toBe(1);
  for (let i = 0; i < SOURCES - 1; i++) budget.take(`source ${i}`, 0);
  expect(taken(budget, "first", 0, 1)).toBe(0); // still known, and now the last one heard of
  for (let i = 0; i < SOURCES - 1; i++) budget.take(`source ${i}`, 0);
  expect(taken(budget, "first", 0, 1)).toBe(0);
  for (let i = 0; i < SOURCES; i++) budget.take(`other ${i}`, 0);
  expect(taken(budget, "first", 0, 1)).toBe(1);
});

test("of one connection, the first line of each kind is written and the others are counted", () => {
  const lines = new FirstOfKind();
  expect([lines.add("a"), lines.add("b"), lines.add("a"), lines.add("a")]).toEqual([
    true,
    true,
    false,
    false,
  ]);
  expect(lines.repeated()).toEqual([["a", 3]]);
});
