/**
 * The queue in front of a stream: FQ-CoDel (RFC 8290), a fair queue with active queue management. Frames are
 * dropped or marked here and nowhere else on their way to the peer, apart from those that cannot be read or
 * stored.
 *
 * Fair queueing (RFC 8290). Each flow has a queue of its own. Flows take turns by deficit round robin: in its
 * turn a flow may send `quantum` bytes; what a large frame takes beyond that is subtracted from the flow's
 * next turns. There are two lists of flows. A flow in which nothing waited joins the list NEW, which is
 * served before the list OLD. So a flow that sends little never waits behind one that sends much. After its
 * first turn, or when it is empty, a flow moves to OLD.
 *
 * CoDel (RFC 8289) for each flow. A queue that only absorbs a burst empties again by itself. A queue that
 * stands does not: its frames have waited for `target` ms or longer during a whole `interval`. Then the frame
 * at its head is dropped, so that its sender slows down. While the queue goes on standing, the next drops
 * follow after interval / √(number of drops), that is faster and faster. Where the ends of the flow
 * understand ECN (RFC 3168), the frame is marked instead of dropped.
 *
 * Two things are not in the RFCs, because one frame here may be a super-frame of up to 64 KB. It is split on
 * a slow path, so that other flows wait for `slice` bytes at most. And where a frame is to be dropped, a
 * super-frame loses only its first segment.
 *
 * Limits in memory and in age hold besides. Memory is counted in whole slots of the pool, as slots are what
 * runs out; the longest flow loses frames first, and of several links the one that holds most.
 *
 * All lists are linked by arrays of numbers, so that no frame and no turn allocates memory.
 */

import { type FramePool, type Size, SLOT_BYTES, type SlotHolder } from "../frame/frame-pool.ts";
import { findHeaders, fixIpv4Checksum, Headers } from "../frame/headers.ts";
import { VIRTIO } from "../frame/virtio.ts";
import { HEADER, TYPE, writeHeader } from "../message.ts";
import { plan, planSplit, split } from "./super-frame.ts";

/**
 * Bytes of slots that one link may hold: 3072 small ones, or 90 large ones. Where the pool has no more, it takes
 * from the link that holds most.
 */
const HELD_MAX = 6 << 20;
/** Frames that have waited longer than this, ms, are dropped: their ends have given them up. */
const AGE_MAX = 2000;
/** ms between two looks for such frames on a link that takes none. */
const AGE_LOOK = 250;
/**
 * Bytes of two full Ethernet frames. So many may always wait: with fewer, the link would be idle between two
 * frames (RFC 8289 uses one MTU).
 */
const BACKLOG_MIN = 3028;

/** The list that a flow is in: none, as nothing of it waits. */
const IDLE = 0;
/** The flows in which nothing waited before. RFC 8290 calls them sparse. */
const NEW = 1;
/** The flows that have had their first turn. */
const OLD = 2;

const found = new Headers();

export class FairQueue implements SlotHolder {
  /** Bytes that wait. */
  bytes = 0;
  /** Frames that wait. */
  frames = 0;
  /** Slots of the pool in which they are, by size. */
  readonly held = new Int32Array(SLOT_BYTES.length);
  /** Bytes of these slots. */
  #heldBytes = 0;
  /** When to look for old frames next, ms. */
  #lookAt = 0;
  /** Frames dropped since the beginning because there was no room for them or because they were too old. */
  overflow = 0;
  /** Frames, or first segments of super-frames, that CoDel dropped since the beginning. */
  drops = 0;
  /** Frames that CoDel marked since the beginning. */
  marks = 0;
  /** How long frames waited, ms: a moving average. */
  delay = 0;
  /** CoDel's target, ms: how long a frame may wait in a queue that does not stand. */
  target = 20;
  /** CoDel's interval, ms: how long frames must have waited too long before the queue counts as standing. */
  interval = 100;
  /** Bytes that a flow may send in one turn. */
  quantum = 1514;
  /** Super-frames that are longer than this, bytes, are split. */
  slice = Number.POSITIVE_INFINITY;
  /** The flow of the frame that `pop` gave last. */
  popped = 0;
  readonly #pool: FramePool;
  /** First flow of the list NEW; -1 = the list is empty. */
  #newHead = -1;
  /** Last flow of the list NEW. */
  #newTail = -1;
  /** First flow of the list OLD; -1 = the list is empty. */
  #oldHead = -1;
  /** Last flow of the list OLD. */
  #oldTail = -1;

  // Of each flow, by its number:

  /** Slot of its oldest frame, -1 = none waits. The slots of a flow are linked by the pool's `next`. */
  readonly #head: Int32Array;
  /** Slot of its newest frame, -1 = none waits. */
  readonly #tail: Int32Array;
  /** The next flow in the same list, -1 = it is the last. */
  readonly #nextFlow: Int32Array;
  /** IDLE, NEW or OLD. */
  readonly #list: Uint8Array;
  /** Bytes that it may still send in this turn; below zero after a frame that was longer than that. */
  readonly #deficit: Int32Array;
  /** Its bytes that wait. */
  readonly #backlog: Int32Array;
  /** CoDel's first_above_time: when its queue counts as standing, ms. 0 = its frames do not wait too long. */
  readonly #standsAt: Float64Array;
  /** CoDel's drop_next: when to drop the next frame, ms. */
  readonly #dropNext: Float64Array;
  /** CoDel's count: drops since the queue began to stand. */
  readonly #count: Int32Array;
  /** CoDel's lastcount: `#count` when dropping began this time. */
  readonly #lastCount: Int32Array;
  /** CoDel's dropping: 1 while the queue stands. */
  readonly #dropping: Uint8Array;

  /** @param flows how many flows there are; their numbers are 0 to flows - 1. */
  constructor(pool: FramePool, flows: number) {
    this.#pool = pool;
    this.#head = new Int32Array(flows).fill(-1);
    this.#tail = new Int32Array(flows).fill(-1);
    this.#nextFlow = new Int32Array(flows);
    this.#list = new Uint8Array(flows);
    this.#deficit = new Int32Array(flows);
    this.#backlog = new Int32Array(flows);
    this.#standsAt = new Float64Array(flows);
    this.#dropNext = new Float64Array(flows);
    this.#count = new Int32Array(flows);
    this.#lastCount = new Int32Array(flows);
    this.#dropping = new Uint8Array(flows);
    pool.join(this);
  }

  /** Whether something of a flow waits. */
  has(flow: number): boolean {
    return (this.#head[flow] ?? -1) >= 0;
  }

  /** Whether a flow of the list NEW waits, that is one that sends little. */
  get sparse(): boolean {
    return this.#newHead >= 0;
  }

  /**
   * Add a frame to the end of its flow. If that is more than the limits allow, the longest flow loses its
   * oldest frames.
   * @param slot the pool's slot of the frame's message; the queue owns it from now on.
   * @param flow the frame's flow (flow.ts).
   * @param now ms.
   */
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
    const size = pool.sizeOf(slot);
    this.held[size] = (this.held[size] ?? 0) + 1;
    this.#heldBytes += SLOT_BYTES[size];
    if (this.#list[flow] === IDLE) {
      this.#deficit[flow] = this.quantum;
      this.#append(flow, NEW);
    }
    while (this.#heldBytes > HELD_MAX) this.dropLongest();
  }

  /** Drop frames of the longest flow until a slot of this size is free, of which the queue holds one at least. */
  give(size: Size): void {
    const before = this.held[size] ?? 0;
    while ((this.held[size] ?? 0) === before && this.dropLongest());
  }

  /** Drop the frames that are too old, also where none leaves. @param now ms. */
  age(now: number): void {
    if (this.frames === 0 || now < this.#lookAt) return;
    this.#lookAt = now + AGE_LOOK;
    for (let list = 0; list < 2; list++) {
      for (
        let flow = list === 0 ? this.#newHead : this.#oldHead;
        flow >= 0;
        flow = this.#nextFlow[flow] ?? -1
      ) {
        for (;;) {
          const slot = this.#head[flow] ?? -1;
          if (slot < 0 || now - (this.#pool.time[slot] ?? 0) <= AGE_MAX) break;
          this.#pool.free(this.#shift(flow));
          this.overflow++;
        }
      }
    }
  }

  /** Drop the oldest frame of the flow that has the most bytes. @returns false if nothing waits. */
  dropLongest(): boolean {
    let longest = -1;
    let most = 0;
    for (let list = 0; list < 2; list++) {
      for (
        let flow = list === 0 ? this.#newHead : this.#oldHead;
        flow >= 0;
        flow = this.#nextFlow[flow] ?? -1
      ) {
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
   * Take the next frame to send.
   * @param now ms.
   * @param sparseOnly only a frame of the list NEW.
   * @returns its slot, which the caller owns from now on; -1 = none.
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
        // A new flow that is empty goes to the list OLD first. Otherwise it could remain new for ever by
        // sending one frame at a time (RFC 8290, section 4.2).
        if (list === NEW && this.#oldHead >= 0) this.#append(flow, OLD);
        else this.#list[flow] = IDLE;
        continue;
      }
      this.#deficit[flow] = (this.#deficit[flow] ?? 0) - (this.#pool.length[slot] ?? 0);
      this.popped = flow;
      return slot;
    }
  }

  /** Give what waits of a flow to another queue, where nothing of it waits. */
  moveTo(other: FairQueue, flow: number): void {
    while (this.has(flow)) {
      const slot = this.#shift(flow);
      other.push(slot, flow, this.#pool.time[slot] ?? 0);
    }
  }

  /** Drop everything that waits. */
  clear(): void {
    while (this.dropLongest());
  }

  /** Drop everything that waits. The queue is not used any more. */
  free(): void {
    this.clear();
    this.#pool.leave(this);
  }

  /**
   * Take the next frame of a flow, after the frames that CoDel drops: the dequeue routine of RFC 8289,
   * section 5.5. To mark a frame or to take a segment off it counts as a drop.
   * @returns its slot; -1 = the flow is empty.
   */
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
        if (this.#mark(slot) || this.#shorten(slot)) {
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
      // A queue that stood a short while ago goes on at the pace of drops at which it stopped standing.
      const delta = count - (this.#lastCount[flow] ?? 0);
      const recent = now - (this.#dropNext[flow] ?? 0) < 16 * this.interval;
      this.#count[flow] = delta > 1 && recent ? delta : 1;
      this.#dropNext[flow] = now + this.interval / Math.sqrt(this.#count[flow] ?? 1);
      this.#lastCount[flow] = this.#count[flow] ?? 1;
    }
    return slot;
  }

  /** Whether the queue of a flow stands, by the age of the frame in `slot`, which was at its head. */
  #stands(flow: number, slot: number, now: number): boolean {
    if (now - (this.#pool.time[slot] ?? 0) < this.target || (this.#backlog[flow] ?? 0) <= BACKLOG_MIN) {
      this.#standsAt[flow] = 0;
      return false;
    }
    const standsAt = this.#standsAt[flow] ?? 0;
    if (standsAt !== 0) return now >= standsAt;
    this.#standsAt[flow] = now + this.interval;
    return false;
  }

  /**
   * Take the oldest frame of a flow, or the first part of it if it is longer than `slice`. Frames that are
   * too old are dropped.
   * @returns its slot; -1 = the flow is empty.
   */
  #take(flow: number, now: number): number {
    for (;;) {
      const slot = this.#head[flow] ?? -1;
      if (slot < 0) {
        this.#standsAt[flow] = 0;
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

  /**
   * Move the first part of a super-frame into a slot of its own. The rest remains in `slot`, at the head of
   * the flow.
   * @returns the slot of the first part; -1 = the frame cannot be split, or there is no slot.
   */
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
    pool.fill(part, start, size);
    const to = pool.start[part] ?? 0;
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

  /**
   * Mark a frame with "congestion experienced" (RFC 3168): both bits of the ECN field.
   * @returns false if the field is 0, as the ends of its flow do not understand ECN, or the frame is numbered:
   *   then it is a copy.
   */
  #mark(slot: number): boolean {
    const pool = this.#pool;
    const { bytes } = pool.memory;
    const start = pool.start[slot] ?? 0;
    if (bytes[start] !== TYPE.offloaded && bytes[start] !== TYPE.frame) return false;
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

  /**
   * Drop only the first segment of a super-frame: its sender slows down as if the whole had been lost, and
   * has less to send again.
   * @returns false if it is not a super-frame.
   */
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

  /** Drop the frame in a slot that is no longer in the queue. */
  #drop(slot: number): void {
    this.#pool.free(slot);
    this.drops++;
  }

  /** Take the oldest frame off the queue of a flow, which must not be empty. @returns its slot. */
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
    const size = pool.sizeOf(slot);
    this.held[size] = (this.held[size] ?? 0) - 1;
    this.#heldBytes -= SLOT_BYTES[size];
    return slot;
  }

  /** Take the first flow off a list. @param list NEW or OLD. */
  #unlink(list: number): void {
    if (list === NEW) {
      this.#newHead = this.#nextFlow[this.#newHead] ?? -1;
      if (this.#newHead < 0) this.#newTail = -1;
    } else {
      this.#oldHead = this.#nextFlow[this.#oldHead] ?? -1;
      if (this.#oldHead < 0) this.#oldTail = -1;
    }
  }

  /** Add a flow to the end of a list. @param list NEW or OLD. */
  #append(flow: number, list: number): void {
    this.#nextFlow[flow] = -1;
    this.#list[flow] = list;
    if (list === NEW) {
      if (this.#newTail < 0) this.#newHead = flow;
      else this.#nextFlow[this.#newTail] = flow;
      this.#newTail = flow;
    } else {
      if (this.#oldTail < 0) this.#oldHead = flow;
      else this.#nextFlow[this.#oldTail] = flow;
      this.#oldTail = flow;
    }
  }
}
