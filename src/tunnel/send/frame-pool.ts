/** Memory for the frames that wait, shared by all links of a thread: slots of two sizes in one block, allocated once. */

import { allocate, at, libc, type Memory } from "../../linux/libc.ts";

/** A slot holds one message with its header: a super-frame of the kernel's with VLAN tags, or an ordinary frame. */
export const LARGE = 69_632;
export const SMALL = 2048;
/** A message that is read into a slot begins here: room for a header in front, and the frame behind is aligned. */
export const LEAD = 6;
/** Only what was touched is resident: 13 MB and 12 MB at most. */
const LARGES = 192;
const SMALLS = 6144;

/** Slots are numbers: first the large ones. Of each: where its message begins in `memory`, its length, the slot behind it. */
export class FramePool {
  readonly memory: Memory;
  readonly start: Int32Array;
  readonly length: Int32Array;
  readonly next: Int32Array;
  /** When it was queued, ms. */
  readonly time: Float64Array;
  /** The large slot that frames are read into. */
  spare: number;
  #large: number;
  #freeLarge = -1;
  #freeSmall = -1;
  #larges = 0;
  #smalls = 0;

  constructor(large = LARGES, small = SMALLS) {
    this.#large = large;
    this.memory = allocate(large * LARGE + small * SMALL);
    const slots = large + small;
    this.start = new Int32Array(slots);
    this.length = new Int32Array(slots);
    this.next = new Int32Array(slots);
    this.time = new Float64Array(slots);
    // Lists that give back first what was used last: pages stay few.
    for (let slot = slots - 1; slot >= 0; slot--) this.free(slot);
    this.spare = this.takeLarge();
  }

  /** Bytes that are not taken: what a link may hold depends on it. */
  get room(): number {
    return this.#larges * LARGE + this.#smalls * SMALL;
  }

  /** A slot for `length` bytes, -1 = there is none. */
  take(length: number): number {
    if (length <= SMALL && this.#freeSmall >= 0) {
      const slot = this.#freeSmall;
      this.#freeSmall = this.next[slot] ?? -1;
      this.#smalls--;
      return slot;
    }
    return length <= LARGE ? this.takeLarge() : -1;
  }

  takeLarge(): number {
    const slot = this.#freeLarge;
    if (slot < 0) return -1;
    this.#freeLarge = this.next[slot] ?? -1;
    this.#larges--;
    return slot;
  }

  free(slot: number): void {
    if (slot < this.#large) {
      this.next[slot] = this.#freeLarge;
      this.#freeLarge = slot;
      this.#larges++;
    } else {
      this.next[slot] = this.#freeSmall;
      this.#freeSmall = slot;
      this.#smalls++;
    }
  }

  /** Where a slot's bytes begin in `memory`. */
  offset(slot: number): number {
    return slot < this.#large ? slot * LARGE : this.#large * LARGE + (slot - this.#large) * SMALL;
  }

  /** Copy `length` bytes within the memory. */
  copy(to: number, from: number, length: number): void {
    const { address } = this.memory;
    libc.memcpy(at(address + to), at(address + from), length);
  }
}

let own: FramePool | undefined;

/** The pool of this thread (modules are per thread), made when first needed. */
export function threadPool(): FramePool {
  own ??= new FramePool();
  return own;
}
