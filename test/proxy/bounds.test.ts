/** The small bounds of the relay, each for itself: fairness, memory, queues, windows, sources. */

import { expect, test } from "bun:test";
import { FairSet } from "../../src/fair-set.ts";
import { ByteQueue } from "../../src/proxy/byte-queue.ts";
import { type Holder, MemoryBudget } from "../../src/proxy/memory-budget.ts";
import { ReceiveWindow } from "../../src/proxy/receive-window.ts";
import { plainAddress, sourceOf } from "../../src/source.ts";

test("a full set loses the oldest item of the owner with most", () => {
  const set = new FairSet<string>(4);
  expect([set.add("a1", "a"), set.add("b1", "b"), set.add("b2", "b"), set.add("b3", "b")]).toEqual([
    ...[undefined, undefined, undefined, undefined],
  ]);
  expect(set.add("c1", "c")).toBe("b1");
  expect(set.add("b4", "b")).toBe("b2");
  expect(set.size).toBe(4);
  set.delete("b3");
  set.delete("b3");
  expect(set.size).toBe(3);
  expect(set.add("d1", "d")).toBeUndefined();
  expect(set.add("e1", "e")).toBe("a1"); // all have one: the oldest of all
});

test("an owner that has all it may have loses its own oldest, also where there is room", () => {
  const set = new FairSet<string>(10, 2);
  set.add("a1", "a");
  set.add("b1", "b");
  set.add("b2", "b");
  expect(set.add("b3", "b")).toBe("b1");
  expect(set.add("a2", "a")).toBeUndefined();
  expect(set.add("a3", "a")).toBe("a1");
});

test("one owner's burst never takes the place of another's single item", () => {
  const set = new FairSet<number>(8);
  set.add(-1, "honest");
  for (let i = 0; i < 1000; i++) expect(set.add(i, "burst")).not.toBe(-1);
  expect(set.size).toBe(8);
});

class Held implements Holder {
  ended = false;
  constructor(public held: number) {}
  exceeded(): void {
    this.ended = true;
    this.held = 0;
  }
}

test("beyond the budget, who holds most is ended, and nobody else", () => {
  const budget = new MemoryBudget(100);
  const [small, large, last] = [new Held(30), new Held(60), new Held(20)];
  for (const one of [small, large, last]) budget.update(one);
  expect([small.ended, large.ended, last.ended]).toEqual([false, true, false]);
  expect(budget.total).toBe(50);
  small.held = 0;
  last.held = 101;
  budget.update(last);
  expect([small.ended, last.ended]).toEqual([false, true]);
  expect(budget.total).toBe(0);
});

test("what was given up meanwhile counts no longer", () => {
  const budget = new MemoryBudget(100);
  const [before, now] = [new Held(90), new Held(50)];
  budget.update(before);
  before.held = 10; // it has not said so yet
  budget.update(now);
  expect([before.ended, now.ended]).toEqual([false, false]);
  expect(budget.total).toBe(60);
});

test("a queue gives back what was put in, in blocks, whatever the sizes", () => {
  const queue = new ByteQueue();
  const all = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 3));
  const out: Buffer[] = [];
  for (let at = 0, size = 1; at < all.length; at += size, size = (size * 13) % 40_009) {
    queue.add(all.subarray(at, at + size));
    if (size % 3 === 0) out.push(queue.take() ?? Buffer.alloc(0));
  }
  for (let block = queue.take(); block !== undefined; block = queue.take()) out.push(block);
  expect(Buffer.concat(out).equals(all)).toBe(true);
  expect(queue.empty).toBe(true);
});

test("bytes that come one by one wait in few blocks", () => {
  const queue = new ByteQueue();
  for (let i = 0; i < 50_000; i++) queue.add(Buffer.of(i));
  let blocks = 0;
  while (queue.take() !== undefined) blocks++;
  expect(blocks).toBeLessThanOrEqual(2);
  queue.add(Buffer.of(1));
  queue.clear();
  expect(queue.take()).toBeUndefined();
});

test("a window is opened again only for what is gone, and never more than its size waits", () => {
  let opened = 0;
  const window = new ReceiveWindow(1000, (bytes) => (opened += bytes));
  expect(window.received(600)).toBe(true);
  expect(window.received(401)).toBe(false);
  expect(window.received(400)).toBe(true);
  expect([window.held, opened]).toEqual([1000, 0]);
  expect(window.received(1)).toBe(false);
  window.consumed(499);
  expect([window.held, opened]).toEqual([501, 0]); // not for every byte
  window.consumed(1);
  expect([window.held, opened]).toEqual([500, 500]);
  expect(window.received(501)).toBe(false);
  window.inputEnds();
  expect(window.received(1)).toBe(false);
  window.consumed(500);
  expect([window.held, opened]).toEqual([0, 500]);
});

test("a window is released once, and holds nothing from then on", () => {
  let released = 0;
  const window = new ReceiveWindow(
    10,
    () => {},
    () => released++,
  );
  window.received(10);
  window.free();
  window.free();
  window.consumed(10);
  expect([window.held, released]).toEqual([0, 1]);
});

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["::ffff:192.0.2.1", "192.0.2.1"],
  ["2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"],
  ["2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["1::", "1:0:0:0::/64"],
])("%s is of the source %s", (address, source) => {
  expect(sourceOf(address)).toBe(source);
});

test("an IPv4 address of a socket of both families is shown as such", () => {
  expect(plainAddress("::ffff:192.0.2.1")).toBe("192.0.2.1");
  expect(plainAddress("2001:db8::1")).toBe("2001:db8::1");
});
