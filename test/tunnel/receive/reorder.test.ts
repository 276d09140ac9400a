/** Frames of a flow that came over several lanes: what waits, how long, and what its end does to the pool. */

import { afterEach, expect, test } from "bun:test";
import { allocate } from "../../../src/linux/libc.ts";
import { SLOT_BYTES, SMALL, threadPool } from "../../../src/tunnel/frame/frame-pool.ts";
import { HOLD, REORDER_MAX, Reorder } from "../../../src/tunnel/receive/reorder.ts";

const FLOW = 40;
const FRAME = 60;
const memory = allocate(FRAME);
const pool = threadPool();
const ROOM = pool.room;

/** The first bytes of the frames that were delivered. */
const came: number[] = [];
let order: Reorder;
/** Called for each of them. */
let then = (): void => {};

function begin(): void {
  came.length = 0;
  then = () => {};
  order = new Reorder((from, _offloaded, offset) => {
    came.push(from.bytes[offset] ?? -1);
    then();
  });
  order.begin(0);
}

/** The frame with this number comes, and waits. */
function waits(number: number, now: number, flow = FLOW): void {
  memory.bytes[0] = number;
  order.keep(flow, number, false, memory, 0, FRAME, now);
}

afterEach(() => {
  order.free();
  expect(pool.room).toBe(ROOM);
});

test("a frame waits for HOLD, however many others of its flow are lost", () => {
  begin();
  for (let number = 1; number < 40; number += 2) waits(number, number);
  order.tick(HOLD);
  expect(came).toEqual([]);
  // Each of them has waited long enough once the last one has.
  order.tick(HOLD + 60);
  expect(came).toEqual(Array.from({ length: 20 }, (_, i) => 2 * i + 1));
  expect(order.waiting).toBe(0);
});

test("a frame that came later waits on, one before it that came later still does not", () => {
  begin();
  waits(5, 0);
  waits(3, 500);
  waits(9, 500);
  order.tick(HOLD);
  expect(came).toEqual([3, 5]);
  expect(order.waiting).toBe(1);
  order.tick(HOLD + 500);
  expect(came).toEqual([3, 5, 9]);
});

test("the tunnel ends while a frame that waited is delivered: no slot is given back twice", () => {
  begin();
  for (const number of [1, 2, 3]) waits(number, 0);
  then = () => order.free();
  order.delivered(FLOW, 1);
  expect(came).toEqual([1]);
  const taken = [0, 1, 2, 3].map(() => pool.take(FRAME));
  expect(new Set(taken).size).toBe(4);
  for (const slot of taken) pool.free(slot);
});

test("a frame for which there is no room counts as lost, one that came before does not", () => {
  begin();
  waits(2, 0);
  waits(2, 0);
  expect(order.lost).toBe(0);
  order.give(SMALL);
  expect([order.waiting, order.lost]).toEqual([0, 1]);
  // Before NUMBERING nothing goes on, and what waits is bounded.
  order.free();
  order = new Reorder(() => {});
  for (let number = 0; number < 4000; number++) waits(number, 0);
  expect(order.waiting).toBeLessThanOrEqual(REORDER_MAX / SLOT_BYTES[SMALL]);
  expect(order.waiting + order.lost).toBe(4000);
});

test("without room the flows on which others depend lose frames last", () => {
  begin();
  waits(1, 0, 0);
  waits(2, 0);
  order.give(SMALL);
  order.tick(HOLD);
  expect(came).toEqual([1]);
});
