/**
 * Memory for the frames that wait, shared by all links of a thread: slots of three sizes in one block,
 * allocated once.
 *
 * A slot is known by its number. `start`, `length`, `next` and `time` are indexed by it. A frame gets a slot of
 * the smallest size that fits, and never a larger one: so what runs out is slots of one size. Then the queue
 * that holds most of them gives one back.
 */

import { allocate, at, libc, type Memory } from "../../linux/libc.ts";
import { NUMBER_LENGTH } from "../message.ts";

/** The sizes, as indexes of what is counted by size. */
export const SMALL = 0;
export const MEDIUM = 1;
export const LARGE = 2;

/** A size of slots, by its index. */
export type Size = typeof SMALL | typeof MEDIUM | typeof LARGE;

/**
 * Bytes of a slot of each size. A small one holds the message of an ordinary frame; a medium one that of a
 * jumbo frame (MTU 9000), or of a short super-frame; a large one any message: 64 KB, VLAN tags and all headers.
 */
export const SLOT_BYTES = [2048, 10_240, 69_632] as const;
/** Bytes at the beginning of each slot that a number may need in front of the message (message.ts). */
export const NUMBER_ROOM = NUMBER_LENGTH;
/**
 * Offset in a slot at which the virtio-net header of a frame is read. So there is room for the message's
 * header and a number in front, and the frame itself is aligned to 16 bytes.
 */
export const LEAD = 22;
/** Slots of each size: 12, 10 and 25 MB. Only the pages that were ever used are resident. */
const SLOTS = [6144, 1024, 384] as const;

/** A queue whose frames are in the pool. */
export interface SlotHolder {
  /** Slots that it holds, by size. */
  readonly held: Readonly<Int32Array>;
  /** Free a slot of this size, of which it holds at least one. */
  give(size: Size): void;
}

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
  /** Number of the frame within its flow, where it waits for those before it. */
  readonly number: Uint32Array;
  /** The large slot that the next frame is read into, whatever the link. */
  spare: number;
  /** The queues of all links that have one. */
  readonly #holders = new Set<SlotHolder>();
  // By size:
  /** The number of its first slot, and behind the last size the number of all slots. */
  readonly #first: readonly [number, number, number, number];
  /** Where its first slot begins in `memory`. */
  readonly #base: readonly [number, number, number];
  /** Its first free slot; -1 = none is free. */
  readonly #free = new Int32Array(SLOT_BYTES.length).fill(-1);

  /** @param slots how many small, medium and large ones. */
  constructor([small, medium, large]: readonly [number, number, number] = SLOTS) {
    this.#first = [0, small, small + medium, small + medium + large];
    const smallBytes = small * SLOT_BYTES[SMALL];
    this.#base = [0, smallBytes, smallBytes + medium * SLOT_BYTES[MEDIUM]];
    this.memory = allocate(this.#base[LARGE] + large * SLOT_BYTES[LARGE]);
    const count = this.#first[3];
    this.start = new Int32Array(count);
    this.length = new Int32Array(count);
    this.next = new Int32Array(count);
    this.time = new Float64Array(count);
    this.number = new Uint32Array(count);
    // The slot that was freed last is used first, so that few pages are ever touched.
    for (let slot = count - 1; slot >= 0; slot--) this.free(slot);
    this.spare = this.take(SLOT_BYTES[LARGE] - NUMBER_ROOM);
  }

  /** The size of a slot. */
  sizeOf(slot: number): Size {
    return slot < this.#first[MEDIUM] ? SMALL : slot < this.#first[LARGE] ? MEDIUM : LARGE;
  }

  /** The smallest size whose slots hold a message of `length` bytes, and a number in front of it. */
  sizeFor(length: number): Size {
    const bytes = NUMBER_ROOM + length;
    return bytes <= SLOT_BYTES[SMALL] ? SMALL : bytes <= SLOT_BYTES[MEDIUM] ? MEDIUM : LARGE;
  }

  /** Bytes of the free slots. */
  get room(): number {
    let sum = 0;
    for (const size of [SMALL, MEDIUM, LARGE] as const)
      for (let slot = this.#free[size] ?? -1; slot >= 0; slot = this.next[slot] ?? -1)
        sum += SLOT_BYTES[size];
    return sum;
  }

  /** Take a free slot for a message of `length` bytes, which fits into a large one. @returns -1 = none is free. */
  take(length: number): number {
    const size = this.sizeFor(length);
    const slot = this.#free[size] ?? -1;
    if (slot >= 0) this.#free[size] = this.next[slot] ?? -1;
    return slot;
  }

  /**
   * As `take`. Where no slot is free the queue that holds most of the size that fits gives one: that of a link
   * which takes nothing does not keep the others waiting.
   * @returns -1 = all slots of that size are committed to streams.
   */
  claim(length: number): number {
    const slot = this.take(length);
    if (slot >= 0) return slot;
    const size = this.sizeFor(length);
    let most = 0;
    let holder: SlotHolder | undefined;
    for (const one of this.#holders) {
      const held = one.held[size] ?? 0;
      if (held <= most) continue;
      most = held;
      holder = one;
    }
    holder?.give(size);
    return this.take(length);
  }

  /** Give a slot back. */
  free(slot: number): void {
    const size = this.sizeOf(slot);
    this.next[slot] = this.#free[size] ?? -1;
    this.#free[size] = slot;
  }

  /** A queue puts frames into the pool from now on. */
  join(holder: SlotHolder): void {
    this.#holders.add(holder);
  }

  /** A queue is empty, and not used any more. */
  leave(holder: SlotHolder): void {
    this.#holders.delete(holder);
  }

  /** Where a slot's bytes begin in `memory`. */
  offset(slot: number): number {
    const size = this.sizeOf(slot);
    return this.#base[size] + (slot - this.#first[size]) * SLOT_BYTES[size];
  }

  /** Put a copy of a message into a slot. @param from where the message begins in `memory`. */
  fill(slot: number, from: number, length: number): void {
    const to = this.offset(slot) + NUMBER_ROOM;
    this.copy(to, from, length);
    this.start[slot] = to;
    this.length[slot] = length;
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
