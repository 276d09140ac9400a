/** The way from the TAP to the stream: frames read, queued, and written without ever waiting. */

import { allocate, at, EAGAIN, EINTR, errno, libc } from "../linux/libc.ts";
import {
  FRAME_MAX,
  FRAME_MIN,
  HEADER,
  REASON_MAX,
  TYPE,
  writeClose,
  writeHeader,
  writeHello,
  writePing,
} from "./message.ts";
import { FrameQueue } from "./queue.ts";

/** Bytes that wait for the stream at most, besides the stage. At 20 Mbit/s that is 105 ms. */
const QUEUE = 262_144;
/** One byte more than the largest frame, to notice a frame that is cut off. */
const READ = FRAME_MAX + 1;
const CLOSE = HEADER + REASON_MAX;
/** Room at the stage's end that frames leave to pings, and pings to the last word. */
const PINGS = 256;
/** What the stage holds of frames: one while another is read, so that a stream that keeps up costs no copy. */
const FRAMES = 2 * (HEADER + READ);
const STAGE = FRAMES + PINGS + CLOSE;
/** Writes in one go, so that one fast stream leaves time to the others. */
const WRITES = 8;

// Where a frame is read to that has to be queued. One for all links: nothing stays in it. Made when first needed.
let scratch: ReturnType<typeof allocate> | undefined;

/**
 * The stage is what is promised to the stream: bytes on it are never dropped, as a message may be half written. Frames that
 * find the stage full wait in the queue, and only there the oldest are dropped.
 */
export class Outbox {
  framesOut = 0;
  bytesOut = 0;
  /** Frames longer than any frame can be. */
  #oversize = 0;
  #stage = allocate(STAGE);
  #start = 0;
  #end = 0;
  #queue = new FrameQueue(QUEUE);

  /** Bytes wait for the stream. */
  get waiting(): boolean {
    return this.#end > this.#start;
  }
  get dropped(): number {
    return this.#queue.dropped + this.#oversize;
  }

  hello(mtu: number): void {
    this.#end += writeHello(this.#stage.bytes, this.#end, mtu);
  }

  /** A ping or its answer, ahead of the queue; left out when the stage is full of them. */
  ping(type: typeof TYPE.ping | typeof TYPE.pong, high: number, low: number): void {
    this.#compact();
    if (this.#end + 12 > FRAMES + PINGS) return;
    this.#end += writePing(this.#stage.bytes, this.#end, type, high, low);
  }

  /** The last word. Frames that wait in the queue are given up. */
  close(reason: string): void {
    this.#queue.clear();
    this.#compact();
    if (this.#end + CLOSE <= STAGE) this.#end += writeClose(this.#stage.bytes, this.#end, reason);
  }

  /** Read one frame from the TAP. Returns its length in bytes, or -errno (-EAGAIN: there is none). */
  pull(tap: number): number {
    this.#compact();
    const direct = this.#queue.bytes === 0 && this.#end + HEADER + READ <= FRAMES;
    scratch ??= allocate(HEADER + READ);
    const memory = direct ? this.#stage : scratch;
    const offset = direct ? this.#end : 0;
    const length = libc.read(tap, at(memory.address + offset + HEADER), READ);
    if (length < 0) return -errno();
    if (length > FRAME_MAX || length < FRAME_MIN) {
      this.#oversize++;
      return length;
    }
    writeHeader(memory.bytes, offset, TYPE.frame, length);
    if (direct) {
      this.#end += HEADER + length;
      this.#count(length);
    } else {
      this.#queue.push(memory.address, HEADER + length);
    }
    return length;
  }

  /** Write what the stream takes now. Returns the bytes it took, or -errno when it is broken. */
  flush(stream: number): number {
    let taken = 0;
    for (let i = 0; i < WRITES; i++) {
      this.#refill();
      const length = this.#end - this.#start;
      if (length === 0) break;
      const n = libc.write(stream, at(this.#stage.address + this.#start), length);
      if (n < 0) {
        const code = errno();
        if (code === EINTR) continue;
        if (code === EAGAIN) break;
        return -code;
      }
      this.#start += n;
      taken += n;
      if (n < length) break;
    }
    return taken;
  }

  #refill(): void {
    if (this.#queue.bytes === 0) return;
    this.#compact();
    for (;;) {
      const n = this.#queue.shift(this.#stage.address + this.#end, FRAMES - this.#end);
      if (n === 0) break;
      this.#end += n;
      this.#count(n - HEADER);
    }
  }

  /** Unsent bytes to the stage's beginning. Moved only when the room behind them gets short. */
  #compact(): void {
    if (this.#start === this.#end) {
      this.#start = this.#end = 0;
    } else if (this.#start > 0 && this.#end + HEADER + READ > FRAMES) {
      this.#stage.bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
  }

  #count(length: number): void {
    this.framesOut++;
    this.bytesOut += length;
  }
}
