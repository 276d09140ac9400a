/**
 * FQ-CoDel (RFC 8290) in front of a stream: a queue per flow, served in turn, those that have little to send before those that
 * have much; a queue that keeps standing loses (or marks) frames at its head until it does not. Drops happen here only.
 */

import { findHeaders, fixIpv4Checksum, Headers } from "../frame/headers.ts";
import { VIRTIO } from "../frame/virtio.ts";
import { HEADER, TYPE, writeHeader } from "../message.ts";
import type { FramePool } from "./frame-pool.ts";
import { plan, planSplit, split } from "./super-frame.ts";

/** Bytes and frames of one link that wait at most; half of what the pool has left, if that is less. */
const BYTES_MAX = 4 << 20;
const FRAMES_MAX = 3072;
/** Frames older than this are of no use to anybody, ms. */
const AGE_MAX = 2000;
/** A flow may always hold this much: there is no point in keeping a queue shorter than a frame. */
const LITTLE = 3028;

const IDLE = 0;
const NEW = 1;
const OLD = 2;

const found = new Headers();

export class FairQueue {
  /** Bytes and frames that wait. */
  bytes = 0;
  frames = 0;
  /** Since the beginning: frames for which there was no room or that were too old, frames dropped or marked to slow a flow down. */
  overflow = 0;
  drops = 0;
  marks = 0;
  /** How long frames waited, ms: a moving average. */
  delay = 0;
  /** CoDel's target and interval, ms. */
  target = 20;
  interval = 100;
  /** Bytes that a flow sends in its turn, and the size of what super-frames are cut to. */
  quantum = 1514;
  slice = Number.POSITIVE_INFINITY;
  readonly #pool: FramePool;
  /** Lists of flows in turn: heads and tails, linked by `#after`. */
  #newHead = -1;
  #newTail = -1;
  #oldHead = -1;
  #oldTail = -1;
  readonly #head: Int32Array;
  readonly #tail: Int32Array;
  readonly #after: Int32Array;
  readonly #list: Uint8Array;
  readonly #deficit: Int32Array;
  readonly #backlog: Int32Array;
  /** CoDel's: when the queue will have stood for an interval (0 = it does not), when to drop next, drops in this episode and in the last. */
  readonly #since: Float64Array;
  readonly #dropNext: Float64Array;
  readonly #count: Int32Array;
  readonly #lastCount: Int32Array;
  readonly #dropping: Uint8Array;

  constructor(pool: FramePool, flows: number) {
    this.#pool = pool;
    this.#head = new Int32Array(flows).fill(-1);
    this.#tail = new Int32Array(flows).fill(-1);
    this.#after = new Int32Array(flows);
    this.#list = new Uint8Array(flows);
    this.#deficit = new Int32Array(flows);
    this.#backlog = new Int32Array(flows);
    this.#since = new Float64Array(flows);
    this.#dropNext = new Float64Array(flows);
    this.#count = new Int32Array(flows);
    this.#lastCount = new Int32Array(flows);
    this.#dropping = new Uint8Array(flows);
  }

  /** Whether a flow waits that had nothing to send before. */
  get sparse(): boolean {
    return this.#newHead >= 0;
  }

  /** Put a filled slot at the end of its flow; where there is no room the longest flow loses its oldest. */
  push(slot: number, flow: number, now: number): void {
    const pool = this.#pool;
    pool.next[slot] = -1;
    pool.time[slot] = now;
    const tail = this.#tail[flow] ?? -1;
    if (tail < 0) this.#head[flow] = slot;
    else pool.next[tail] = slot;
    this.#tail[flow] = slot;
    const length = pool.length[slot] ?? 0;
    this.#backlog[flow] = (this.#backlog[flow] ?? 0) + length;
    this.bytes += length;
    this.frames++;
    if (this.#list[flow] === IDLE) {
      this.#deficit[flow] = this.quantum;
      this.#append(flow, NEW);
    }
    const most = Math.min(BYTES_MAX, pool.room / 2 + LITTLE);
    while ((this.bytes > most || this.frames > FRAMES_MAX) && this.frames > 1) this.dropLongest();
  }

  /** Drop the oldest frame of the flow that has most bytes. False: nothing waits. */
  dropLongest(): boolean {
    let longest = -1;
    let most = 0;
    for (let list = 0; list < 2; list++) {
      for (let flow = list === 0 ? this.#newHead : this.#oldHead; flow >= 0; flow = this.#after[flow] ?? -1) {
        const backlog = this.#backlog[flow] ?? 0;
        if (backlog > most) {
          most = backlog;
          longest = flow;
        }
      }
    }
    if (longest < 0) return false;
    this.#pool.free(this.#shift(longest));
    this.overflow++;
    return true;
  }

  /**
   * The next frame's slot, which is the caller's from now on; -1 = none.
   * @param sparseOnly only of a flow that had nothing to send before.
   */
  pop(now: number, sparseOnly = false): number {
    for (;;) {
      const list = this.#newHead >= 0 ? NEW : OLD;
      const flow = list === NEW ? this.#newHead : this.#oldHead;
      if (flow < 0 || (sparseOnly && list === OLD)) return -1;
      if ((this.#deficit[flow] ?? 0) <= 0) {
        this.#deficit[flow] = (this.#deficit[flow] ?? 0) + this.quantum;
        this.#unlink(list);
        this.#append(flow, OLD);
        continue;
      }
      const slot = this.#codel(flow, now);
      if (slot < 0) {
        this.#unlink(list);
        // A new flow that is empty goes round once more, or it could stay new for ever by sending now and then.
        if (list === NEW && this.#oldHead >= 0) this.#append(flow, OLD);
        else this.#list[flow] = IDLE;
        continue;
      }
      this.#deficit[flow] = (this.#deficit[flow] ?? 0) - (this.#pool.length[slot] ?? 0);
      return slot;
    }
  }

  clear(): void {
    while (this.bytes > 0) if (!this.dropLongest()) break;
  }

  /** RFC 8289, appendix A: the head of a flow after those that have to go. */
  #codel(flow: number, now: number): number {
    let slot = this.#take(flow, now);
    if (slot < 0) {
      this.#dropping[flow] = 0;
      return -1;
    }
    let standing = this.#stands(flow, slot, now);
    if (this.#dropping[flow] === 1) {
      if (!standing) this.#dropping[flow] = 0;
      while (this.#dropping[flow] === 1 && now >= (this.#dropNext[flow] ?? 0)) {
        this.#count[flow] = (this.#count[flow] ?? 0) + 1;
        const next = (this.#dropNext[flow] ?? 0) + this.interval / Math.sqrt(this.#count[flow] ?? 1);
        if (this.#mark(slot)) {
          this.#dropNext[flow] = next;
          break;
        }
        if (this.#shorten(slot)) {
          this.#dropNext[flow] = next;
          break;
        }
        this.#drop(slot);
        slot = this.#take(flow, now);
        if (slot < 0) {
          this.#dropping[flow] = 0;
          return -1;
        }
        standing = this.#stands(flow, slot, now);
        if (standing) this.#dropNext[flow] = next;
        else this.#dropping[flow] = 0;
      }
    } else if (standing) {
      if (!this.#mark(slot) && !this.#shorten(slot)) {
        this.#drop(slot);
        slot = this.#take(flow, now);
        if (slot >= 0) this.#stands(flow, slot, now);
      }
      this.#dropping[flow] = 1;
      const count = this.#count[flow] ?? 0;
      const fresh = count - (this.#lastCount[flow] ?? 0);
      const recent = now - (this.#dropNext[flow] ?? 0) < 16 * this.interval;
      this.#count[flow] = fresh > 1 && recent ? fresh : 1;
      this.#dropNext[flow] = now + this.interval / Math.sqrt(this.#count[flow] ?? 1);
      this.#lastCount[flow] = this.#count[flow] ?? 1;
    }
    return slot;
  }

  /** Whether the flow's queue has been standing for an interval. */
  #stands(flow: number, slot: number, now: number): boolean {
    if (now - (this.#pool.time[slot] ?? 0) < this.target || (this.#backlog[flow] ?? 0) <= LITTLE) {
      this.#since[flow] = 0;
      return false;
    }
    const since = this.#since[flow] ?? 0;
    if (since !== 0) return now >= since;
    this.#since[flow] = now + this.interval;
    return false;
  }

  /** The head of a flow, or its first part; frames that are too old are dropped. */
  #take(flow: number, now: number): number {
    for (;;) {
      const slot = this.#head[flow] ?? -1;
      if (slot < 0) {
        this.#since[flow] = 0;
        return -1;
      }
      const age = now - (this.#pool.time[slot] ?? 0);
      if (age > AGE_MAX) {
        this.#pool.free(this.#shift(flow));
        this.overflow++;
        continue;
      }
      this.delay += (age - this.delay) / 16;
      const part = (this.#pool.length[slot] ?? 0) > this.slice ? this.#split(flow, slot) : -1;
      return part >= 0 ? part : this.#shift(flow);
    }
  }

  /** Split off the first part of a super-frame; -1 = it stays whole. */
  #split(flow: number, slot: number): number {
    const pool = this.#pool;
    const { bytes } = pool.memory;
    const start = pool.start[slot] ?? 0;
    const length = pool.length[slot] ?? 0;
    if (bytes[start] !== TYPE.offloaded || !planSplit(bytes, start + HEADER, start + length, this.slice))
      return -1;
    const size = HEADER + plan.headers + plan.data;
    const part = pool.take(size);
    if (part < 0) return -1;
    const to = pool.offset(part);
    pool.copy(to, start, size);
    pool.start[part] = to;
    pool.length[part] = size;
    pool.time[part] = pool.time[slot] ?? 0;
    split(bytes, to + HEADER, start + HEADER, start + length);
    writeHeader(bytes, to, TYPE.offloaded, size - HEADER);
    pool.start[slot] = start + plan.data;
    pool.length[slot] = length - plan.data;
    writeHeader(bytes, start + plan.data, TYPE.offloaded, length - plan.data - HEADER);
    this.#backlog[flow] = (this.#backlog[flow] ?? 0) - plan.data;
    this.bytes -= plan.data;
    return part;
  }

  /** Say "congestion experienced" (RFC 3168) if the frame's ends understand that. */
  #mark(slot: number): boolean {
    const pool = this.#pool;
    const { bytes } = pool.memory;
    const start = pool.start[slot] ?? 0;
    const frame = start + HEADER + (bytes[start] === TYPE.offloaded ? VIRTIO : 0);
    findHeaders(bytes, frame, start + (pool.length[slot] ?? 0), found);
    const { network, version } = found;
    if (version === 4 && ((bytes[network + 1] ?? 0) & 3) !== 0) {
      bytes[network + 1] = (bytes[network + 1] ?? 0) | 3;
      fixIpv4Checksum(bytes, network);
    } else if (version === 6 && ((bytes[network + 1] ?? 0) & 0x30) !== 0) {
      bytes[network + 1] = (bytes[network + 1] ?? 0) | 0x30;
    } else {
      return false;
    }
    this.marks++;
    return true;
  }

  /** Of a super-frame only the first segment is dropped: that says as much as all of them, and costs less. */
  #shorten(slot: number): boolean {
    const pool = this.#pool;
    const { bytes } = pool.memory;
    const start = pool.start[slot] ?? 0;
    const length = pool.length[slot] ?? 0;
    if (bytes[start] !== TYPE.offloaded || !planSplit(bytes, start + HEADER, start + length, 0)) return false;
    split(bytes, -1, start + HEADER, start + length);
    pool.start[slot] = start + plan.data;
    pool.length[slot] = length - plan.data;
    writeHeader(bytes, start + plan.data, TYPE.offloaded, length - plan.data - HEADER);
    this.drops++;
    return true;
  }

  #drop(slot: number): void {
    this.#pool.free(slot);
    this.drops++;
  }

  #shift(flow: number): number {
    const pool = this.#pool;
    const slot = this.#head[flow] ?? -1;
    const next = pool.next[slot] ?? -1;
    this.#head[flow] = next;
    if (next < 0) this.#tail[flow] = -1;
    const length = pool.length[slot] ?? 0;
    this.#backlog[flow] = (this.#backlog[flow] ?? 0) - length;
    this.bytes -= length;
    this.frames--;
    return slot;
  }

  /** Take the first flow off its list. */
  #unlink(list: number): void {
    if (list === NEW) {
      this.#newHead = this.#after[this.#newHead] ?? -1;
      if (this.#newHead < 0) this.#newTail = -1;
    } else {
      this.#oldHead = this.#after[this.#oldHead] ?? -1;
      if (this.#oldHead < 0) this.#oldTail = -1;
    }
  }

  #append(flow: number, list: number): void {
    this.#after[flow] = -1;
    this.#list[flow] = list;
    if (list === NEW) {
      if (this.#newTail < 0) this.#newHead = flow;
      else this.#after[this.#newTail] = flow;
      this.#newTail = flow;
    } else {
      if (this.#oldTail < 0) this.#oldHead = flow;
      else this.#after[this.#oldTail] = flow;
      this.#oldTail = flow;
    }
  }
}
