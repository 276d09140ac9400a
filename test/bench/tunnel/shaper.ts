/**
 * A wire as a model describes it (test/tunnel/send/paths/models.ts): two TAPs, and what comes out of one goes
 * late into the other, or never. A kernel need not have sch_netem for it. Arguments: bridges of both sides (the
 * device is on the left one), name of the model, seed. Whatever comes on standard input begins the model's time
 * anew.
 */

import { dlopen } from "bun:ffi";
import { spawnSync } from "node:child_process";
import { allocate, at, libc, POLLIN } from "../../../src/linux/libc.ts";
import { openTap } from "../../../src/linux/tap.ts";
import { Line } from "../../tunnel/send/paths/line.ts";
import { pathModel } from "../../tunnel/send/paths/models.ts";

const SLOT = 2048;
const SLOTS = 16_384;
/** Preamble, checksum and gap of Ethernet, bytes. */
const ETHERNET = 24;
const { ppoll } = dlopen("libc.so.6", {
  ppoll: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" },
}).symbols;

const [left = "", right = "", name = "", seed = "1"] = process.argv.slice(2);
const model = pathModel(name, Number(seed));
/** When the model's time began, ms. */
let began = performance.now();

/** One direction. */
class Direction {
  readonly memory = allocate(SLOT * SLOTS);
  readonly lengths = new Int32Array(SLOTS);
  /** When each frame arrives, ms of performance.now(). */
  readonly due = new Float64Array(SLOTS);
  first = 0;
  count = 0;
  constructor(
    readonly from: number,
    readonly to: number,
    public line: Line,
  ) {}

  take(now: number): void {
    while (this.count < SLOTS) {
      const slot = (this.first + this.count) % SLOTS;
      const n = libc.read(this.from, at(this.memory.address + SLOT * slot), SLOT);
      if (n < 0) return;
      const due = this.line.send(n + ETHERNET, now - began);
      if (due === undefined) continue;
      this.lengths[slot] = n;
      this.due[slot] = began + due;
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
const up = (): Line => new Line(model.up, Number(seed));
const down = (): Line => new Line(model.down, Number(seed) + 1);
const ways = [new Direction(a, b, up()), new Direction(b, a, down())] as const;
const polls = allocate(24);
const words = new Int32Array(polls.bytes.buffer);
const timeout = allocate(16);
const time = new DataView(timeout.bytes.buffer);
const input = allocate(256);
/** Standard input has ended: nothing begins anew. */
let ended = false;
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
  words.set([a, POLLIN, b, POLLIN, ended ? -1 : 0, POLLIN]);
  ppoll(at(polls.address), 3n, at(timeout.address), at(0));
  if (ended || (words[5] ?? 0) >>> 16 === 0) continue;
  ended = libc.read(0, at(input.address), 256) <= 0;
  if (ended) continue;
  began = performance.now();
  ways[0].line = up();
  ways[1].line = down();
}
