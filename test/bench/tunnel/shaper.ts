/**
 * A wire with a rate, a delay, a queue and losses: two TAPs, and what comes out of one goes late into the other. A kernel need
 * not have sch_netem for it. Arguments: bridges of both sides, then Mbit/s (0 = as fast as it goes), delay each way in ms,
 * queue in bytes each way, loss each way in per cent.
 */

import { dlopen } from "bun:ffi";
import { spawnSync } from "node:child_process";
import { allocate, at, libc, POLLIN } from "../../../src/linux/libc.ts";
import { openTap } from "../../../src/linux/tap.ts";
import { chance } from "../../tunnel/rig.ts";

const SLOT = 2048;
const SLOTS = 16_384;
const { ppoll } = dlopen("libc.so.6", {
  ppoll: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" },
}).symbols;

const [left = "", right = "", ...numbers] = process.argv.slice(2);
const [rate = 0, delay = 0, queue = 0, loss = 0] = numbers.map(Number);
/** Bytes per ms. */
const speed = rate === 0 ? Number.POSITIVE_INFINITY : (rate * 1e6) / 8 / 1000;
const random = chance(12_345);

/** One direction. */
class TunnelTransport {
  readonly memory = allocate(SLOT * SLOTS);
  readonly lengths = new Int32Array(SLOTS);
  readonly due = new Float64Array(SLOTS);
  first = 0;
  count = 0;
  /** When the last frame will have left the queue, ms. */
  busy = 0;
  constructor(
    readonly from: number,
    readonly to: number,
  ) {}

  take(now: number): void {
    while (this.count < SLOTS) {
      const slot = (this.first + this.count) % SLOTS;
      const n = libc.read(this.from, at(this.memory.address + SLOT * slot), SLOT);
      if (n < 0) return;
      if (random(100_000) < loss * 1000) continue;
      if (Number.isFinite(speed) && (this.busy - now) * speed > queue) continue;
      this.busy = Math.max(this.busy, now) + (n + 24) / speed; // preamble, checksum and gap of Ethernet
      this.lengths[slot] = n;
      this.due[slot] = this.busy + delay;
      this.count++;
    }
  }

  /** Returns when the next frame is due, ms. */
  give(now: number): number {
    while (this.count > 0) {
      const due = this.due[this.first] ?? 0;
      if (due > now) return due;
      libc.write(this.to, at(this.memory.address + SLOT * this.first), this.lengths[this.first] ?? 0);
      this.first = (this.first + 1) % SLOTS;
      this.count--;
    }
    return Number.POSITIVE_INFINITY;
  }
}

const taps = [left, right].map((bridge) => {
  const { fd, name } = openTap("wire%d");
  const { status } = spawnSync("ip", ["link", "set", name, "master", bridge, "up", "txqueuelen", "10000"]);
  if (status !== 0) throw new Error(`cannot join ${bridge}`);
  return fd;
});
const [a = -1, b = -1] = taps;
const ways = [new TunnelTransport(a, b), new TunnelTransport(b, a)];
const polls = allocate(16);
const words = new Int32Array(polls.bytes.buffer);
const timeout = allocate(16);
const time = new DataView(timeout.bytes.buffer);
process.stderr.write("the wire is there\n");
for (;;) {
  const now = performance.now();
  let next = now + 1000;
  for (const way of ways) {
    way.take(now);
    next = Math.min(next, way.give(now));
  }
  const wait = Math.max(0, next - performance.now());
  time.setBigInt64(0, BigInt(Math.floor(wait / 1000)), true);
  time.setBigInt64(8, BigInt(Math.floor((wait % 1000) * 1e6)), true);
  words.set([a, POLLIN, b, POLLIN]);
  ppoll(at(polls.address), 2n, at(timeout.address), at(0));
}
