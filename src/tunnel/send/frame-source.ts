/**
 * The frames of one tunnel on their way to the peer, from the TAP to the lane that sends them. The functions
 * stand in the order of that way:
 *
 * 1. `pull` reads one frame from the TAP into the spare slot of the pool (frame-pool.ts), and writes the
 *    message's header in front of it.
 * 2. `#keep` moves a short frame into a shorter slot. If the pool is full, the queue that holds most of it
 *    loses frames.
 * 3. `pull` adds the frame to the queue of its flow (flow.ts, fair-queue.ts). Only the queue drops or marks
 *    frames because of congestion.
 * 4. `pop` gives a lane its next frame.
 *
 * A tunnel begins with one lane, the first, and one queue. Once there is a further lane, all frames are
 * numbered within their flow, since frames of a flow may take several lanes. There are two queues then:
 *
 * - Flows that send little (light.ts) go over the first lane, and small frames of theirs a second time over
 *   another one: the peer takes what comes first.
 * - The others go over the further lanes. Those whose windows allow it take turns (turns.ts). While all of them
 *   are silent, the first lane takes these frames, too.
 *
 * All that waits of a flow is in one queue, so that its frames are numbered in their order. A flow that sends much
 * takes along what waits of it among those that send little.
 */

import { at, errno, libc } from "../../linux/libc.ts";
import { FLOWS, flowOf } from "../frame/flow.ts";
import { LARGE, LEAD, SLOT_BYTES, SMALL, threadPool } from "../frame/frame-pool.ts";
import { complete, GSO_NONE, isOffloaded, littleU16, VIRTIO } from "../frame/virtio.ts";
import type { Framing } from "../framing.ts";
import { FRAME_MIN, HEADER, NUMBER_LENGTH, TYPE, writeHeader, writeNumber } from "../message.ts";
import { FairQueue } from "./fair-queue.ts";
import { LightFlows } from "./light.ts";
import { type Taker, Turns } from "./turns.ts";
import type { Window } from "./window.ts";

/** How long the transmission of one part of a super-frame may take, ms: other frames wait behind it. */
const SLICE_TIME = 2;
/** The longest message that is sent a second time, bytes. */
const COPY_MAX = 512;

/** What there is once frames are numbered. */
interface Lanes {
  /** The number of the next frame of each flow. */
  readonly numbers: Uint32Array;
  readonly flows: LightFlows;
  /** Frames of flows that send little. */
  readonly light: FairQueue;
  /** Second copies of such frames, which are numbered. */
  readonly copies: FairQueue;
  /** The further lanes. */
  readonly turns: Turns;
}

export class FrameSource {
  /** Frames that lanes took since the beginning, without copies. */
  framesOut = 0;
  /** Bytes of those frames, without headers of messages and of virtio-net. */
  bytesOut = 0;
  /** Frames that were read and not queued: too short, too long, not for this peer, or no memory was left. */
  lost = 0;
  /** The peer takes offloaded frames. Set by the link. */
  offload = false;
  /** All frames; once frames are numbered, those of flows with much to send. Made for the first frame. */
  #queue: FairQueue | undefined;
  #lanes: Lanes | undefined;
  /** See `flowOf`. */
  readonly #salt = Math.floor(Math.random() * 0x1_0000_0000) | 0;
  /** Bytes of the longest frame. */
  readonly #frameMax: number;

  /**
   * @param framing how frames are told apart in the stream.
   * @param mtu of the node's network, bytes. In a framing without HELLO it decides how long a frame may be.
   */
  constructor(framing: Framing, mtu: number) {
    this.#frameMax = framing.frameMax(mtu);
  }

  /** Bytes that wait. */
  get queued(): number {
    return (this.#queue?.bytes ?? 0) + (this.#lanes?.light.bytes ?? 0);
  }
  /** How long frames wait in the queue, ms, a moving average; 0 while none waits. */
  get queueDelay(): number {
    return this.queued === 0 ? 0 : (this.#queue?.delay ?? 0);
  }
  /** Frames dropped since the beginning, for whatever reason. */
  get dropped(): number {
    return this.lost + dropped(this.#queue) + dropped(this.#lanes?.light);
  }
  /** Frames marked (ECN) since the beginning. */
  get marked(): number {
    return (this.#queue?.marks ?? 0) + (this.#lanes?.light.marks ?? 0);
  }
  /** Further lanes. */
  get lanes(): number {
    return this.#lanes?.turns.count ?? 0;
  }

  /**
   * Read one frame from the TAP and queue it.
   * @param tap file descriptor.
   * @param vnet the TAP puts a virtio-net header in front of each frame.
   * @param now ms.
   * @returns bytes read, or -errno (-EAGAIN: no frame is there).
   */
  pull(tap: number, vnet: boolean, now: number): number {
    const pool = threadPool();
    const { bytes, address } = pool.memory;
    const header = pool.offset(pool.spare) + LEAD;
    const frame = header + VIRTIO;
    const into = vnet ? header : frame;
    const room = pool.offset(pool.spare) + SLOT_BYTES[LARGE] - into;
    const n = libc.read(tap, at(address + into), room);
    if (n < 0) return -errno();
    const end = into + n;
    const offloaded = vnet && isOffloaded(bytes, header);
    // A read that fills the whole slot may have cut the frame off.
    const fits = end - frame >= FRAME_MIN && n < room && (offloaded || end - frame <= this.#frameMax);
    if (!fits || (offloaded && !this.offload && !makePlain(bytes, header, end))) {
      this.lost++;
      return n;
    }
    const start = offloaded && this.offload ? header - HEADER : frame - HEADER;
    writeHeader(bytes, start, start < header ? TYPE.offloaded : TYPE.frame, end - start - HEADER);
    const flow = flowOf(bytes, frame, end, this.#salt);
    const slot = this.#keep(start, end - start);
    if (slot < 0) this.lost++;
    else this.#queueOf(flow, end - start, now).push(slot, flow, now);
    return n;
  }

  /**
   * Move the message in the spare slot into a slot of its own. A short one is copied into a shorter slot. A
   * long one stays where it is, and another large slot becomes the spare one.
   * @param start where the message begins in the pool's memory.
   * @param length its bytes, header included.
   * @returns the message's slot; -1 = no slot is free.
   */
  #keep(start: number, length: number): number {
    const pool = threadPool();
    const slot = pool.claim(length);
    if (slot < 0 || pool.sizeOf(slot) !== LARGE) {
      if (slot >= 0) pool.fill(slot, start, length);
      return slot;
    }
    const long = pool.spare;
    pool.spare = slot;
    pool.start[long] = start;
    pool.length[long] = length;
    return long;
  }

  #queueOf(flow: number, length: number, now: number): FairQueue {
    this.#queue ??= new FairQueue(threadPool(), FLOWS);
    const queue = this.#queue;
    const lanes = this.#lanes;
    if (lanes === undefined || lanes.turns.count === 0) return queue;
    const light = lanes.flows.takes(flow, length, now);
    if (light && !queue.has(flow)) return lanes.light;
    lanes.light.moveTo(queue, flow);
    return queue;
  }

  /** A further lane is there. @returns whether it is the first: from now on frames are numbered. */
  addLane(lane: Taker): boolean {
    const first = this.#lanes === undefined;
    const pool = threadPool();
    this.#queue ??= new FairQueue(pool, FLOWS);
    this.#lanes ??= {
      numbers: new Uint32Array(FLOWS),
      flows: new LightFlows(FLOWS),
      light: new FairQueue(pool, FLOWS),
      copies: new FairQueue(pool, FLOWS),
      turns: new Turns(),
    };
    this.#lanes.turns.add(lane);
    return first;
  }

  /** A further lane is gone. After the last one there is one queue again, in which all flows take turns. */
  removeLane(lane: Taker): void {
    const lanes = this.#lanes;
    lanes?.turns.remove(lane);
    if (lanes === undefined || lanes.turns.count > 0) return;
    lanes.copies.clear();
    const queue = this.#queue;
    if (queue !== undefined) for (let flow = 0; flow < FLOWS; flow++) lanes.light.moveTo(queue, flow);
  }

  /**
   * Whether frames wait that this lane may send.
   * @param further it is not the first lane.
   * @param stalls it gets no acknowledgements: a copy would hardly come first.
   */
  waits(further: boolean, stalls = false): boolean {
    const lanes = this.#lanes;
    const main = this.#queue !== undefined && this.#queue.frames > 0;
    if (lanes === undefined || lanes.turns.count === 0) return main;
    if (further) return main || (!stalls && lanes.copies.frames > 0);
    return lanes.light.frames > 0 || (main && lanes.turns.silent);
  }

  /**
   * Whether it is this further lane's turn to take a frame. Copies have no turns.
   * @param more bytes that it has taken besides those in flight.
   * @param stalls see `waits`.
   */
  isTurnOf(lane: Taker, more: number, stalls: boolean): boolean {
    const lanes = this.#lanes;
    return lanes === undefined || (!stalls && lanes.copies.frames > 0) || lanes.turns.has(lane, more);
  }

  /** Whether a frame waits that this lane may send although its window is full. The parameters are those of `waits`. */
  hasSparse(further: boolean, stalls = false): boolean {
    const lanes = this.#lanes;
    const main = this.#queue?.sparse === true;
    if (lanes === undefined || lanes.turns.count === 0) return main;
    return further ? main || (!stalls && lanes.copies.frames > 0) : lanes.light.frames > 0;
  }

  /**
   * Take the next frame for a lane.
   * @param further see `waits`, also for `stalls`.
   * @param sparseOnly only one that may exceed the window.
   * @param now ms.
   * @returns its slot, which the caller owns from now on; -1 = none.
   */
  pop(further: boolean, sparseOnly: boolean, stalls: boolean, now: number): number {
    const lanes = this.#lanes;
    const queue = this.#queue;
    if (queue === undefined) return -1;
    if (lanes === undefined) return this.#counted(queue.pop(now, sparseOnly));
    if (further && !stalls && lanes.copies.frames > 0) {
      const copy = lanes.copies.pop(now);
      if (copy >= 0) return copy;
    }
    const first = !further && lanes.turns.count > 0;
    const light = first && (lanes.light.frames > 0 || !lanes.turns.silent);
    const from = light ? lanes.light : queue;
    const slot = this.#counted(from.pop(now, sparseOnly && !light));
    if (slot >= 0) this.#number(lanes, slot, from.popped);
    if (slot >= 0 && light) this.#copy(lanes, slot, now);
    return slot;
  }

  /** Count a frame that a lane takes, and that has no number yet. @returns its slot. */
  #counted(slot: number): number {
    if (slot < 0) return slot;
    const pool = threadPool();
    const offloaded = pool.memory.bytes[pool.start[slot] ?? 0] === TYPE.offloaded;
    this.framesOut++;
    this.bytesOut += (pool.length[slot] ?? 0) - HEADER - (offloaded ? VIRTIO : 0);
    return slot;
  }

  /** Give a frame its number. */
  #number(lanes: Lanes, slot: number, flow: number): void {
    const pool = threadPool();
    const start = pool.start[slot] ?? 0;
    const length = pool.length[slot] ?? 0;
    const number = lanes.numbers[flow] ?? 0;
    lanes.numbers[flow] = number + 1;
    writeNumber(pool.memory.bytes, start, length, flow, number);
    pool.start[slot] = start - NUMBER_LENGTH;
    pool.length[slot] = length + NUMBER_LENGTH;
  }

  /** Queue a copy of a short numbered frame for another lane. */
  #copy(lanes: Lanes, slot: number, now: number): void {
    const pool = threadPool();
    const length = pool.length[slot] ?? 0;
    const copy = length > COPY_MAX ? -1 : pool.take(length);
    if (copy < 0) return;
    pool.fill(copy, pool.start[slot] ?? 0, length);
    lanes.copies.push(copy, lanes.light.popped, now);
  }

  /** Drop the frames that have waited too long, also where no lane takes any. @param now ms. */
  age(now: number): void {
    this.#queue?.age(now);
    this.#lanes?.light.age(now);
    this.#lanes?.copies.age(now);
  }

  /** Adapt the queues to the path, as the window of a lane knows it. @param further see `waits`. */
  tune(window: Window, further: boolean): void {
    if (window.rate === 0) return;
    if (this.#queue !== undefined && (further || this.lanes === 0)) tuned(this.#queue, window);
    if (this.#lanes !== undefined && !further) tuned(this.#lanes.light, window);
  }

  /** Drop all frames that wait. */
  clear(): void {
    this.#queue?.clear();
    this.#lanes?.light.clear();
    this.#lanes?.copies.clear();
  }

  /** Give all slots back to the pool. The source is not used any more. */
  free(): void {
    this.#queue?.free();
    this.#lanes?.light.free();
    this.#lanes?.copies.free();
  }
}

function dropped(queue: FairQueue | undefined): number {
  return queue === undefined ? 0 : queue.overflow + queue.drops;
}

function tuned(queue: FairQueue, window: Window): void {
  queue.slice = Math.max(SLOT_BYTES[SMALL], window.rate * SLICE_TIME);
  queue.quantum = Math.min(SLOT_BYTES[LARGE], Math.max(1514, window.rate));
  // Much longer than a router's 5 ms, as only the flow itself waits behind its own queue. What waits there is
  // what the flow has for the path when its rate rises again: with less, a path whose rate changes within
  // seconds would be empty for as long as the flow's own TCP takes to grow.
  queue.target = 100 + window.emptyRtt;
  queue.interval = 300 + 2 * window.emptyRtt;
}

/**
 * Make a plain frame of an offloaded one, for a peer that takes no offloads: write its checksum.
 * @param header where its virtio-net header begins.
 * @param end where the frame ends.
 * @returns false if it is a super-frame, which would be several plain frames.
 */
function makePlain(bytes: Uint8Array, header: number, end: number): boolean {
  if (bytes[header + 1] !== GSO_NONE) return false;
  const start = header + VIRTIO;
  return complete(bytes, start + littleU16(bytes, header + 6), littleU16(bytes, header + 8), start, end);
}
