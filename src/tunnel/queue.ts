/** Messages that wait for the stream: a ring of bytes, allocated once, in which the oldest make room for the newest. */

import { allocate, at, libc, type Memory } from "../linux/libc.ts";
import { HEADER, lengthAt } from "./message.ts";

export class FrameQueue {
  /** Messages thrown away for want of room, since the beginning. */
  dropped = 0;
  #ring: Memory;
  #size: number;
  /** Place of the oldest byte in the ring, and how many bytes there are from it on. */
  #head = 0;
  #used = 0;
  #header = new Uint8Array(HEADER);

  /** @param size bytes. */
  constructor(size: number) {
    this.#ring = allocate(size);
    this.#size = size;
  }

  /** Bytes that wait. */
  get bytes(): number {
    return this.#used;
  }

  /** Keep a copy of a whole message (header and payload) at `address`, at the cost of the oldest where there is no room. */
  push(address: number, length: number): void {
    if (length > this.#size) {
      this.dropped++;
      return;
    }
    while (this.#size - this.#used < length) {
      this.#forget(this.#oldest());
      this.dropped++;
    }
    const place = this.#place(this.#used);
    const first = Math.min(length, this.#size - place);
    libc.memcpy(at(this.#ring.address + place), at(address), first);
    if (first < length) libc.memcpy(at(this.#ring.address), at(address + first), length - first);
    this.#used += length;
  }

  /** Move the oldest message to `address`, if there is one that fits into `room` bytes. Returns its length, or 0. */
  shift(address: number, room: number): number {
    if (this.#used === 0) return 0;
    const length = this.#oldest();
    if (length > room) return 0;
    const first = Math.min(length, this.#size - this.#head);
    libc.memcpy(at(address), at(this.#ring.address + this.#head), first);
    if (first < length) libc.memcpy(at(address + first), at(this.#ring.address), length - first);
    this.#forget(length);
    return length;
  }

  clear(): void {
    this.#forget(this.#used);
  }

  #forget(length: number): void {
    this.#used -= length;
    // Back to the beginning when empty: a queue that is seldom long touches few pages.
    this.#head = this.#used === 0 ? 0 : this.#place(length);
  }

  /** Where in the ring the byte `offset` after the oldest one is. */
  #place(offset: number): number {
    const place = this.#head + offset;
    return place < this.#size ? place : place - this.#size;
  }

  /** Length of the oldest message, whose header may lie across the ring's end. */
  #oldest(): number {
    for (let i = 0; i < HEADER; i++) this.#header[i] = this.#ring.bytes[this.#place(i)] ?? 0;
    return HEADER + lengthAt(this.#header, 0);
  }
}
