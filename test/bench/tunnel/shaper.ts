/**
 * A wire as a model describes it (test/tunnel/send/paths/models.ts): two TAPs, and what comes out of one goes
 * late into the other, or never. A kernel need not have sch_netem for it. Arguments: bridges of both sides (the
 * device is on the left one), name of the model, seed. Whatever comes on standard input begins the model's time
 * anew.
 */

import { dlopen } from "bun:ffi";
import { spawnSync } from "node:child_process";
import { allocate, at, libc, POLLIN } from "../../../src/linux/libc.ts";
import { openOffloadTap, openTap, setOffload, TUN_F_TCP } from "../../../src/linux/tap.ts";
import { Line } from "../../tunnel/send/paths/line.ts";
import { pathModel } from "../../tunnel/send/paths/models.ts";

/** Bytes of one direction: what a path of 50 ms holds at 5 Gbit/s. */
const RING = 32 << 20;
/** The longest frame with its virtio-net header, bytes. */
const FRAME_MAX = 66_000;
const FRAMES = 65_536;
/** Preamble, checksum and gap of Ethernet, bytes. */
const ETHERNET = 24;
const { ppoll } = dlopen("libc.so.6", {
  ppoll: { args: ["ptr", "u64", "ptr", "ptr"], returns: "i32" },
}).symbols;

const [left = "", right = "", name = "", seed = "1"] = process.argv.slice(2);
const model = pathModel(name, Number(seed));
/** When the model's time began, ms. */
let began = performance.now();

/**
 * On a path without a limit, on which packets do not differ, super-frames of TCP pass as they are. Packet by packet
 * this program would be the limit.
 */
const { up: there, down: back } = model;
const whole = [there, back].every(
  ({ rate, loss }) => rate(0) === Number.POSITIVE_INFINITY && loss === undefined,
);

/** One direction. Positions count from its beginning; they are those of the memory modulo RING. */
class Direction {
  readonly memory = allocate(RING);
  /** Of each frame: where it stands, its bytes, and when it arrives, ms of performance.now(). */
  readonly starts = new Float64Array(FRAMES);
  readonly lengths = new Int32Array(FRAMES);
  readonly due = new Float64Array(FRAMES);
  first = 0;
  count = 0;
  /** Where the next frame is put. */
  end = 0;
  constructor(
    readonly from: number,
    readonly to: number,
    public line: Line,
  ) {}

  take(now: number): void {
    while (this.count < FRAMES) {
      const left = RING - (this.end % RING);
      if (left < FRAME_MAX) this.end += left;
      const from = this.count === 0 ? this.end : (this.starts[this.first] ?? 0);
      if (this.end + FRAME_MAX - from > RING) return;
      const n = libc.read(this.from, at(this.memory.address + (this.end % RING)), FRAME_MAX);
      if (n < 0) return;
      const due = this.line.send(n + ETHERNET, now - began);
      if (due === undefined) continue;
      const frame = (this.first + this.count) % FRAMES;
      this.starts[frame] = this.end;
      this.lengths[frame] = n;
      this.due[frame] = began + due;
      this.end += n;
      this.count++;
    }
  }

  /** Returns when the next frame is due, ms. */
  give(now: number): number {
    while (this.count > 0) {
      const due = this.due[this.first] ?? 0;
      if (due > now) return due;
      const start = (this.starts[this.first] ?? 0) % RING;
      libc.write(this.to, at(this.memory.address + start), this.lengths[this.first] ?? 0);
      this.first = (this.first + 1) % FRAMES;
      this.count--;
    }
    return Number.POSITIVE_INFINITY;
  }
}

const taps = [left, right].map((bridge) => {
  const { fd, name } = whole ? openOffloadTap("wire%d") : openTap("wire%d");
  if (whole) setOffload(fd, TUN_F_TCP);
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
