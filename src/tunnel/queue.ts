/** Messages that wait for the stream: a ring of bytes, allocated once, in which the oldest make room for the newest. */

import { allocate, at, libc, type Memory } from "../linux/libc.ts";
import { HEADER, lengthAt } from "./message.ts";

export class FrameQueue {
  /** Messages thrown away for want of room, since the beginning. */
  dropped = 0;
  #ring: Memory;
  #mask: number;
  /** Positions count up for ever; `& #mask` is the place in the ring. Doubles hold them for 9 PB. */
  #head = 0;
  #tail = 0;
  #header = new Uint8Array(HEADER);

  /** @param size bytes, a power of two. */
  constructor(size: number) {
    if (!Number.isInteger(Math.log2(size))) throw new RangeError(`${size} is no power of two`);
    this.#ring = allocate(size);
    this.#mask = size - 1;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#tail - this.#head;
  }

  /** Keep a copy of a whole message (header and payload) at `address`, at the cost of the oldest where there is no room. */
  push(address: number, length: number): void {
    const size = this.#mask + 1;
    if (length > size) {
      this.dropped++;
      return;
    }
    while (size - this.bytes < length) {
      this.#head += this.#oldest();
      this.dropped++;
    }
    const place = this.#place(this.#tail);
    const first = Math.min(length, size - place);
    libc.memcpy(at(this.#ring.address + place), at(address), first);
    if (first < length) libc.memcpy(at(this.#ring.address), at(address + first), length - first);
    this.#tail += length;
  }

  /** Move the oldest message to `address`, if there is one that fits into `room` bytes. Returns its length, or 0. */
  shift(address: number, room: number): number {
    if (this.#head === this.#tail) return 0;
    const length = this.#oldest();
    if (length > room) return 0;
    const place = this.#place(this.#head);
    const first = Math.min(length, this.#mask + 1 - place);
    libc.memcpy(at(address), at(this.#ring.address + place), first);
    if (first < length) libc.memcpy(at(address + first), at(this.#ring.address), length - first);
    this.#head += length;
    // Back to the beginning when empty: a queue that is seldom long touches few pages.
    if (this.#head === this.#tail) this.#head = this.#tail = 0;
    return length;
  }

  clear(): void {
    this.#head = this.#tail = 0;
  }

  #place(position: number): number {
    return position % (this.#mask + 1);
  }

  /** Length of the oldest message, whose header may lie across the ring's end. */
  #oldest(): number {
    for (let i = 0; i < HEADER; i++) this.#header[i] = this.#ring.bytes[this.#place(this.#head + i)] ?? 0;
    return HEADER + lengthAt(this.#header, 0);
  }
}
