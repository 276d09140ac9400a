/** What a tunnel's lanes take: who sends little goes first while there are several, and takes turns with one. */

import { afterEach, expect, test } from "bun:test";
import { recordPair } from "../../../src/linux/socketpair.ts";
import { threadPool } from "../../../src/tunnel/frame/frame-pool.ts";
import { FRAMINGS } from "../../../src/tunnel/framing.ts";
import { FrameSource } from "../../../src/tunnel/send/frame-source.ts";
import { datagram } from "../frames.ts";
import { writeNow } from "../rig.ts";

const pool = threadPool();
const ROOM = pool.room;
const LIGHT = 1000;
const HEAVY = 1001;

const [node, tap] = recordPair();
let source: FrameSource;

function comes(port: number, number: number, data: number): void {
  writeNow(node, datagram(port, number, data));
  expect(source.pull(tap, false, 0)).toBeGreaterThan(0);
}

/** Port and number of all frames that a lane takes. */
function all(further: boolean): (readonly [port: number, number: number])[] {
  const frames: [number, number][] = [];
  for (;;) {
    const slot = source.pop(further, false, false, 1);
    if (slot < 0) return frames;
    // A message's header and the number are in front of the frame.
    const view = new DataView(pool.memory.bytes.buffer, (pool.start[slot] ?? 0) + 10);
    frames.push([view.getUint16(34), view.getUint32(42)]);
    pool.free(slot);
  }
}

const LANE = { ready: true, inFlight: 0, overdue: false, silent: false };

afterEach(() => {
  source.free();
  expect(pool.room).toBe(ROOM);
});

test("a flow that begins to send much leaves the first lane with all that waits of it, in order", () => {
  source = new FrameSource(FRAMINGS.messages, 1500);
  source.addLane(LANE);
  for (let i = 0; i < 4; i++) comes(HEAVY, i, 1300);
  comes(LIGHT, 0, 40);
  expect([source.waits(false), source.waits(true)]).toEqual([true, false]);
  for (let i = 4; i < 8; i++) comes(HEAVY, i, 1300);
  expect(all(false)).toEqual([[LIGHT, 0]]);
  // A copy of that is there, too.
  expect(all(true)).toEqual([[LIGHT, 0], ...Array.from({ length: 8 }, (_, i) => [HEAVY, i] as const)]);
});

test("with the last further lane goes the precedence of who sends little: all take turns", () => {
  source = new FrameSource(FRAMINGS.messages, 1500);
  source.addLane(LANE);
  for (let i = 0; i < 8; i++) comes(HEAVY, i, 1400);
  for (let i = 0; i < 4; i++) comes(LIGHT, i, 1300);
  expect([source.waits(false), source.waits(true)]).toEqual([true, true]);
  source.removeLane(LANE);
  comes(LIGHT, 4, 100); // behind what waits
  const came = all(false);
  expect(came.filter(([port]) => port === LIGHT).map(([, number]) => number)).toEqual([0, 1, 2, 3, 4]);
  expect(came.filter(([port]) => port === HEAVY).map(([, number]) => number)).toHaveLength(8);
  expect(came.slice(0, 4).map(([port]) => port)).toContain(HEAVY);
  expect([source.waits(false), source.hasSparse(false)]).toEqual([false, false]);
});
