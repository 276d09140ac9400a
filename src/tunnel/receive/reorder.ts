/**
 * Puts the frames of a tunnel with several lanes in order again, each flow for itself: a frame that waits for
 * the one before it, which is sent again by the TCP of another lane, keeps no other flow waiting.
 *
 * - A number that was delivered before is a copy, or came too late: it is dropped. So no frame is delivered
 *   twice, or behind a later one of its flow.
 * - A frame that is not next waits, as a copy in the pool of frames. It waits for HOLD ms at most: what has not
 *   come then was lost with a lane.
 * - Until the peer's NUMBERING has come all frames wait: those without a number, which are on the first lane,
 *   are earlier.
 * - What waits is bounded in bytes. Beyond that bound the longest waiting frame goes on.
 */

import { at, libc, type Memory } from "../../linux/libc.ts";
import { FLOWS } from "../frame/flow.ts";
import { LARGE, LEAD, type Size, SLOT_BYTES, type SlotHolder, threadPool } from "../frame/frame-pool.ts";
import { VIRTIO } from "../frame/virtio.ts";

/** How long a frame waits for those before it, ms: TCP sends again twice within that on most paths. */
export const HOLD = 1000;
/** ms between two looks for such frames. */
const LOOK = 50;
/** Bytes of slots that may wait for one tunnel. */
export const REORDER_MAX = 6 << 20;

/** Where the frames go. Its parameters are those of `FrameSink.frame`. */
export type Deliver = (
  memory: Memory,
  offloaded: boolean,
  offset: number,
  length: number,
  now: number,
) => void;

export class Reorder implements SlotHolder {
  /** Slots of the pool that it holds, by size. */
  readonly held = new Int32Array(SLOT_BYTES.length);
  #heldBytes = 0;
  /** Frames that wait. */
  waiting = 0;
  /** Frames that were dropped as there was no room for them. */
  lost = 0;
  /** NUMBERING has come. */
  #begun = false;
  /** When to look next for frames that waited too long, ms. */
  #lookAt = 0;
  /** Of each flow: the number of the frame that is next. */
  readonly #next = new Uint32Array(FLOWS);
  /** Of each flow: the slots of frames that wait, by number, linked by the pool's `next`; -1 = none. */
  readonly #head = new Int32Array(FLOWS).fill(-1);
  readonly #tail = new Int32Array(FLOWS).fill(-1);
  /** Of each flow in which frames wait: since when nothing of it was delivered, ms. */
  readonly #since = new Float64Array(FLOWS);

  constructor(readonly deliver: Deliver) {
    threadPool().join(this);
  }

  /** Whether the frame with this number is next in its flow, and may be delivered now. @param flow 0 to FLOWS - 1. */
  isNext(flow: number, number: number): boolean {
    return this.#begun && number === this.#next[flow];
  }

  /** The next frame of a flow was delivered: deliver those that waited for it. */
  delivered(flow: number, now: number): void {
    this.#next[flow] = (this.#next[flow] ?? 0) + 1;
    if ((this.#head[flow] ?? -1) >= 0) this.#drain(flow, now);
  }

  /** Keep a copy of a frame that is not next. The parameters are those of `FrameSink.numbered`. */
  keep(
    flow: number,
    number: number,
    offloaded: boolean,
    memory: Memory,
    offset: number,
    length: number,
    now: number,
  ): void {
    // Before NUMBERING nothing can go on: the first lane, on which it comes, is late.
    const full = !this.#begun && this.#heldBytes > REORDER_MAX - SLOT_BYTES[LARGE];
    const fits = LEAD + VIRTIO + length <= SLOT_BYTES[LARGE];
    if (ahead(number, this.#next[flow] ?? 0) < 0) return;
    if (full || !fits) {
      this.lost++;
      return;
    }
    const pool = threadPool();
    // The virtio-net header, which a frame may lack, lies at LEAD. In front of it the flow's number is kept.
    const slot = pool.claim(LEAD + VIRTIO + length);
    if (slot < 0) {
      this.lost++;
      return;
    }
    const start = pool.offset(slot) + LEAD + (offloaded ? 0 : VIRTIO);
    libc.memcpy(at(pool.memory.address + start), at(memory.address + offset), length);
    pool.start[slot] = start;
    pool.length[slot] = length;
    pool.time[slot] = now;
    if ((this.#head[flow] ?? -1) < 0) this.#since[flow] = now;
    pool.number[slot] = number;
    if (!this.#insert(flow, slot, number)) {
      pool.free(slot);
      return;
    }
    const size = pool.sizeOf(slot);
    this.held[size] = (this.held[size] ?? 0) + 1;
    this.#heldBytes += SLOT_BYTES[size];
    this.waiting++;
    while (this.#heldBytes > REORDER_MAX) this.#release(this.#oldest(), now);
  }

  /** The peer numbers its frames from here on: deliver those that are next. */
  begin(now: number): void {
    if (this.#begun) return;
    this.#begun = true;
    for (let flow = 0; flow < FLOWS; flow++) this.#drain(flow, now);
  }

  /** Go on without frames that have not come for long. @returns ms until the next call is due. */
  tick(now: number): number {
    if (this.waiting === 0 || !this.#begun) return Number.POSITIVE_INFINITY;
    if (now < this.#lookAt) return this.#lookAt - now;
    this.#lookAt = now + LOOK;
    for (let flow = 0; flow < FLOWS; flow++) if ((this.#head[flow] ?? -1) >= 0) this.#expire(flow, now);
    return LOOK;
  }

  /**
   * Drop a frame that waits in a slot of this size, of which it holds at least one. The first flows, on which
   * other traffic depends (flow.ts), lose frames last.
   */
  give(size: Size): void {
    const pool = threadPool();
    for (let flow = FLOWS - 1; flow >= 0; flow--) {
      let before = -1;
      for (let slot = this.#head[flow] ?? -1; slot >= 0; slot = pool.next[slot] ?? -1) {
        if (pool.sizeOf(slot) === size) {
          this.#drop(flow, before, slot);
          this.lost++;
          return;
        }
        before = slot;
      }
    }
  }

  /** Give all slots back to the pool. It is not used any more. */
  free(): void {
    for (let flow = 0; flow < FLOWS; flow++)
      for (let slot = this.#head[flow] ?? -1; slot >= 0; slot = this.#head[flow] ?? -1)
        this.#drop(flow, -1, slot);
    threadPool().leave(this);
  }

  /** Put a slot into its place in the list of its flow. @returns false if a frame with this number waits already. */
  #insert(flow: number, slot: number, number: number): boolean {
    const { next, number: numbers } = threadPool();
    const tail = this.#tail[flow] ?? -1;
    let before = tail;
    if (tail >= 0 && ahead(number, numbers[tail] ?? 0) <= 0) {
      before = -1;
      for (let at = this.#head[flow] ?? -1; at >= 0; at = next[at] ?? -1) {
        const order = ahead(number, numbers[at] ?? 0);
        if (order === 0) return false;
        if (order < 0) break;
        before = at;
      }
    }
    if (before < 0) {
      next[slot] = this.#head[flow] ?? -1;
      this.#head[flow] = slot;
    } else {
      next[slot] = next[before] ?? -1;
      next[before] = slot;
    }
    if (before === tail) this.#tail[flow] = slot;
    return true;
  }

  /** Take a slot out of the list of its flow. @param before the slot before it; -1 = it is the head. */
  #unlink(flow: number, before: number, slot: number): void {
    const pool = threadPool();
    const after = pool.next[slot] ?? -1;
    if (before < 0) this.#head[flow] = after;
    else pool.next[before] = after;
    if (after < 0) this.#tail[flow] = before;
    const size = pool.sizeOf(slot);
    this.held[size] = (this.held[size] ?? 0) - 1;
    this.#heldBytes -= SLOT_BYTES[size];
    this.waiting--;
  }

  /** Drop a frame that waits. The parameters are those of `#unlink`. */
  #drop(flow: number, before: number, slot: number): void {
    this.#unlink(flow, before, slot);
    threadPool().free(slot);
  }

  /** Deliver the frames at the head of a flow that are next. */
  #drain(flow: number, now: number): void {
    const pool = threadPool();
    for (let slot = this.#head[flow] ?? -1; slot >= 0; slot = this.#head[flow] ?? -1) {
      if (pool.number[slot] !== this.#next[flow]) return;
      const start = pool.start[slot] ?? 0;
      const length = pool.length[slot] ?? 0;
      // The end of the tunnel may come with it, and with that `free`.
      this.#unlink(flow, -1, slot);
      this.#next[flow] = (this.#next[flow] ?? 0) + 1;
      this.#since[flow] = now;
      this.deliver(pool.memory, start === pool.offset(slot) + LEAD, start, length, now);
      pool.free(slot);
    }
  }

  /** Go on with the frames of a flow that have waited too long, and with those before them. */
  #expire(flow: number, now: number): void {
    const { next, time, number } = threadPool();
    let last = -1;
    for (let slot = this.#head[flow] ?? -1; slot >= 0; slot = next[slot] ?? -1)
      if (now - (time[slot] ?? 0) >= HOLD) last = slot;
    if (last < 0) return;
    const until = number[last] ?? 0;
    for (;;) {
      const head = this.#head[flow] ?? -1;
      if (head < 0 || ahead(number[head] ?? 0, until) > 0) return;
      this.#release(flow, now);
    }
  }

  /** Go on with the first frame that waits in a flow, without those before it. */
  #release(flow: number, now: number): void {
    this.#next[flow] = threadPool().number[this.#head[flow] ?? 0] ?? 0;
    this.#drain(flow, now);
  }

  /** The flow that has waited longest. There is one that waits. */
  #oldest(): number {
    let oldest = 0;
    let since = Number.POSITIVE_INFINITY;
    for (let flow = 0; flow < FLOWS; flow++) {
      if ((this.#head[flow] ?? -1) < 0 || (this.#since[flow] ?? 0) >= since) continue;
      since = this.#since[flow] ?? 0;
      oldest = flow;
    }
    return oldest;
  }
}

/** How far number `a` is behind `b` in the order modulo 2^32: below zero if it comes before `b`. */
function ahead(a: number, b: number): number {
  return (a - b) | 0;
}
