/**
 * Memory for the frames that wait, shared by all links of a thread: slots of two sizes in one block,
 * allocated once.
 *
 * A slot is known by its number, the large ones first. `start`, `length`, `next` and `time` are indexed by
 * it.
 */

import { allocate, at, libc, type Memory } from "../../linux/libc.ts";

/** Bytes of a large slot. It holds one message with a super-frame: 64 KB, VLAN tags and all headers. */
export const LARGE = 69_632;
/** Bytes of a small slot. It holds the message of one ordinary frame. */
export const SMALL = 2048;
/**
 * Offset in a slot at which the virtio-net header of a frame is read. So there is room for the message's
 * header in front, and the frame itself is aligned to 16 bytes.
 */
export const LEAD = 6;
/** Large slots: 13 MB. Only the pages that were ever used are resident. */
const LARGE_SLOTS = 192;
/** Small slots: 12 MB. */
const SMALL_SLOTS = 6144;

export class FramePool {
  /** All slots, one behind the other. */
  readonly memory: Memory;
  /** Where the message of each slot begins, as an offset in `memory`. */
  readonly start: Int32Array;
  /** Bytes of the message, header included. */
  readonly length: Int32Array;
  /** The slot behind it in the same list (a flow's queue, or the free slots); -1 = it is the last. */
  readonly next: Int32Array;
  /** When the message was queued, ms. */
  readonly time: Float64Array;
  /** The large slot that the next frame is read into, whatever the link. */
  spare: number;
  /** How many large slots there are. */
  readonly #large: number;
  /** First free large slot, -1 = none. */
  #freeLarge = -1;
  /** First free small slot, -1 = none. */
  #freeSmall = -1;
  /** How many large slots are free. */
  #freeLargeCount = 0;
  /** How many small slots are free. */
  #freeSmallCount = 0;

  /** @param large how many large slots. @param small how many small ones. */
  constructor(large = LARGE_SLOTS, small = SMALL_SLOTS) {
    this.#large = large;
    this.memory = allocate(large * LARGE + small * SMALL);
    const slots = large + small;
    this.start = new Int32Array(slots);
    this.length = new Int32Array(slots);
    this.next = new Int32Array(slots);
    this.time = new Float64Array(slots);
    // The slot that was freed last is used first, so that few pages are ever touched.
    for (let slot = slots - 1; slot >= 0; slot--) this.free(slot);
    this.spare = this.takeLarge();
  }

  /** Bytes of the free slots. How much may wait on a link depends on it. */
  get room(): number {
    return this.#freeLargeCount * LARGE + this.#freeSmallCount * SMALL;
  }

  /**
   * Take a slot for `length` bytes: a small one if one is free and large enough.
   * @returns -1 = none is free.
   */
  take(length: number): number {
    if (length <= SMALL && this.#freeSmall >= 0) {
      const slot = this.#freeSmall;
      this.#freeSmall = this.next[slot] ?? -1;
      this.#freeSmallCount--;
      return slot;
    }
    return length <= LARGE ? this.takeLarge() : -1;
  }

  /** Take a large slot. @returns -1 = none is free. */
  takeLarge(): number {
    const slot = this.#freeLarge;
    if (slot < 0) return -1;
    this.#freeLarge = this.next[slot] ?? -1;
    this.#freeLargeCount--;
    return slot;
  }

  /** Give a slot back. */
  free(slot: number): void {
    if (slot < this.#large) {
      this.next[slot] = this.#freeLarge;
      this.#freeLarge = slot;
      this.#freeLargeCount++;
    } else {
      this.next[slot] = this.#freeSmall;
      this.#freeSmall = slot;
      this.#freeSmallCount++;
    }
  }

  /** Where a slot's bytes begin in `memory`. */
  offset(slot: number): number {
    return slot < this.#large ? slot * LARGE : this.#large * LARGE + (slot - this.#large) * SMALL;
  }

  /** Copy `length` bytes within `memory`; `from` and `to` are offsets of areas that do not overlap. */
  copy(to: number, from: number, length: number): void {
    const { address } = this.memory;
    libc.memcpy(at(address + to), at(address + from), length);
  }
}

let own: FramePool | undefined;

/** The pool of this thread, made when it is first needed. Each thread has its own copy of this module. */
export function threadPool(): FramePool {
  own ??= new FramePool();
  return own;
}
