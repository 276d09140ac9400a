/** The fair queue without a network: which frames leave, in which order, and which are dropped or marked. */

import { expect, test } from "bun:test";
import { EXPRESS, FLOWS, flowOf } from "../../../src/tunnel/frame/flow.ts";
import { FramePool } from "../../../src/tunnel/frame/frame-pool.ts";
import { findHeaders, fold, Headers, sum16 } from "../../../src/tunnel/frame/headers.ts";
import { TYPE, writeHeader } from "../../../src/tunnel/message.ts";
import { FairQueue } from "../../../src/tunnel/send/fair-queue.ts";
import { chance } from "../rig.ts";

/** A message of `length` bytes whose payload begins with a number. */
function put(pool: FramePool, length: number, number: number): number {
  const slot = pool.take(length);
  if (slot < 0) return slot;
  const at = pool.offset(slot);
  pool.start[slot] = at;
  pool.length[slot] = length;
  writeHeader(pool.memory.bytes, at, TYPE.frame, length - 4);
  pool.memory.bytes.fill(0, at + 4, at + length);
  new DataView(pool.memory.bytes.buffer).setUint32(at + 4, number);
  return slot;
}

const numberOf = (pool: FramePool, slot: number): number =>
  new DataView(pool.memory.bytes.buffer).getUint32((pool.start[slot] ?? 0) + 4);

test("each flow's frames leave in order, none twice, and every slot comes back", () => {
  const random = chance(77);
  const pool = new FramePool([300, 8, 8]);
  const room = pool.room;
  const queue = new FairQueue(pool, FLOWS);
  const last = new Map<number, number>();
  const flows = new Map<number, number>();
  let [pushed, popped, lost] = [0, 0, 0];
  for (let now = 0; now < 20_000; now++) {
    if (random(100) < 55) {
      const slot = put(pool, 60 + random(random(10) === 0 ? 60_000 : 1900), pushed);
      if (slot < 0) {
        if (queue.dropLongest()) lost++;
      } else {
        const flow = random(12) === 0 ? random(FLOWS) : random(4);
        flows.set(pushed, flow);
        queue.push(slot, flow, now);
        pushed++;
      }
    } else {
      const slot = queue.pop(now);
      if (slot >= 0) {
        const number = numberOf(pool, slot);
        const flow = flows.get(number) ?? -1;
        expect(number).toBeGreaterThan(last.get(flow) ?? -1);
        last.set(flow, number);
        pool.free(slot);
        popped++;
      }
    }
  }
  for (let slot = queue.pop(20_000); slot >= 0; slot = queue.pop(20_000)) {
    pool.free(slot);
    popped++;
  }
  expect([queue.bytes, queue.frames, pool.room]).toEqual([0, 0, room]);
  expect(popped + queue.overflow + queue.drops).toBe(pushed);
  expect(lost).toBeLessThanOrEqual(queue.overflow);
});

test("a flow with little to send overtakes one with much", () => {
  const pool = new FramePool([500, 0, 2]);
  const queue = new FairQueue(pool, FLOWS);
  for (let i = 0; i < 200; i++) queue.push(put(pool, 1518, i), 100, 0);
  expect(numberOf(pool, queue.pop(1))).toBe(0);
  expect(numberOf(pool, queue.pop(1))).toBe(1);
  queue.push(put(pool, 90, 9999), 7, 1);
  expect(queue.sparse).toBe(true);
  expect(numberOf(pool, queue.pop(1, true))).toBe(9999);
  // No flow is left that sends little.
  expect(queue.pop(1, true)).toBe(-1);
  expect(numberOf(pool, queue.pop(1))).toBe(2);
});

test("two bulk flows get equal shares, whatever the sizes of their frames", () => {
  const pool = new FramePool([3000, 0, 100]);
  const queue = new FairQueue(pool, FLOWS);
  for (let i = 0; i < 40; i++) queue.push(put(pool, 20_000, 0), 50, 0);
  for (let i = 0; i < 600; i++) queue.push(put(pool, 1300, 1), 60, 0);
  const bytes = [0, 0];
  while ((bytes[0] ?? 0) + (bytes[1] ?? 0) < 1_000_000) {
    const slot = queue.pop(1);
    const who = numberOf(pool, slot);
    bytes[who] = (bytes[who] ?? 0) + (pool.length[slot] ?? 0);
    pool.free(slot);
  }
  expect((bytes[0] ?? 0) / (bytes[1] ?? 1)).toBeWithin(0.9, 1.1);
});

test("a queue that stands loses frames at its head; one that empties by itself does not", () => {
  const pool = new FramePool([3000, 0, 2]);
  const standing = new FairQueue(pool, FLOWS);
  let number = 0;
  // Behind 100 frames that came at once, one frame comes and one leaves in every ms.
  for (let i = 0; i < 100; i++) standing.push(put(pool, 1500, number++), 40, 0);
  for (let now = 1; now < 3000; now++) {
    standing.push(put(pool, 1500, number++), 40, now);
    const slot = standing.pop(now);
    if (slot >= 0) pool.free(slot);
  }
  expect(standing.drops).toBeGreaterThan(20);
  expect(standing.delay).toBeLessThan(60);
  standing.clear();
  const burst = new FairQueue(pool, FLOWS);
  for (let now = 0; now < 3000; now++) {
    if (now % 100 === 0) for (let i = 0; i < 50; i++) burst.push(put(pool, 1500, 0), 40, now);
    const slot = burst.pop(now);
    if (slot >= 0) pool.free(slot);
  }
  expect(burst.drops).toBe(0);
});

test("frames whose ends understand ECN are marked, with a right checksum, and not dropped", () => {
  const pool = new FramePool([3000, 0, 2]);
  const queue = new FairQueue(pool, FLOWS);
  const frame = (ecn: number): number => {
    const slot = put(pool, 1518, 0);
    const at = (pool.start[slot] ?? 0) + 4;
    pool.memory.bytes.set(
      [8, 0, 0x45, ecn, 5, 0xdc, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
      at + 12,
    );
    return slot;
  };
  for (let i = 0; i < 100; i++) queue.push(frame(2), 40, 0);
  let marked = 0;
  for (let now = 1; now < 2000; now++) {
    queue.push(frame(2), 40, now);
    const slot = queue.pop(now);
    const at = (pool.start[slot] ?? 0) + 18;
    if (pool.memory.bytes[at + 1] === 3) {
      marked++;
      expect(fold(sum16(pool.memory.bytes, at, at + 20))).toBe(0xffff);
    }
    pool.free(slot);
  }
  expect(queue.drops).toBe(0);
  expect(marked).toBe(queue.marks);
  expect(marked).toBeGreaterThan(5);
});

test("frames that are too old are dropped", () => {
  const pool = new FramePool([10, 0, 2]);
  const queue = new FairQueue(pool, FLOWS);
  queue.push(put(pool, 100, 1), 3, 0);
  queue.push(put(pool, 100, 2), 3, 2500);
  expect(numberOf(pool, queue.pop(2600))).toBe(2);
  expect(queue.overflow).toBe(1);
});

test("express traffic has flows of its own, and equal frames are in the same flow", () => {
  const eth = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
  const ip = (protocol: number, ports: number[], fragment = 0): number[] => [
    ...[0x08, 0, 0x45, 0, 0, 60, 0, 1, fragment, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
    ...ports,
    ...Array<number>(20).fill(0),
  ];
  const flow = (rest: number[]): number => flowOf(Uint8Array.from([...eth, ...rest]), 0, 12 + rest.length, 5);
  const express = [
    [0x08, 0x06, ...Array<number>(28).fill(0)],
    ip(1, [8, 0, 0, 0]),
    ip(17, [0x80, 1, 0, 53]),
    ip(17, [0, 68, 0, 67]),
  ];
  for (const one of express) expect(flow(one)).toBeLessThan(EXPRESS);
  for (const one of [ip(6, [0x80, 1, 0, 22]), ip(17, [0x80, 1, 0x20, 0]), ip(17, [0, 0, 0, 53], 0x20)]) {
    expect(flow(one)).toBeGreaterThanOrEqual(EXPRESS);
  }
  expect(flow(ip(6, [1, 2, 3, 4]))).toBe(flow(ip(6, [1, 2, 3, 4])));
  // All fragments of a datagram are one flow.
  expect(flow(ip(17, [1, 2, 3, 4], 0x20))).toBe(flow(ip(17, [9, 9, 9, 9], 0x01)));
  const spread = new Set(Array.from({ length: 200 }, (_, i) => flow(ip(6, [i, 1, 0, 80]))));
  expect(spread.size).toBeGreaterThan(100);
});

test("headers are found behind tags and extensions, and never beyond the end", () => {
  const random = chance(3);
  const found = new Headers();
  const bytes = new Uint8Array(200);
  for (let i = 0; i < 20_000; i++) {
    for (let k = 0; k < 120; k++) bytes[k] = random(random(2) === 0 ? 4 : 256);
    bytes.set(
      [
        [0x08, 0, 0x45],
        [0x86, 0xdd, 0x60],
        [0x81, 0, 0, 1, 0x08, 0, 0x45],
      ][random(3)] ?? [],
      12,
    );
    const end = 14 + random(100);
    findHeaders(bytes, 0, end, found);
    expect(found.transport).toBeLessThanOrEqual(end);
    if (found.transport >= 0) expect(found.transport).toBeGreaterThan(found.network);
  }
});
