/**
 * The way of a frame from the TAP to the stream. The functions below stand in this order:
 *
 * 1. `pull`: the TAP has a frame; it is read into the spare slot of the pool (frame-pool.ts), and its header is written in front.
 * 2. `#keep`: a short frame moves to a small slot; where the pool is full, the longest flow gives way.
 * 3. The frame joins the queue of its flow (flow.ts, fair-queue.ts). Only there frames are dropped or marked.
 * 4. `flush`: the stream takes something.
 * 5. `#commit`: as many frames as the window allows (window.ts) leave the queue, super-frames in parts (super-frame.ts). They are
 *    promised to the stream: from here on nothing is dropped, as a message may be half written.
 * 6. `#advance`: what the stream took is given back to the pool.
 *
 * Control messages (HELLO, PING, ACK, CLOSE) pass the queue: they are written first.
 */

import { allocate, at, EAGAIN, errno, libc } from "../../linux/libc.ts";
import { complete, GSO_NONE, isOffloaded, littleU16, VIRTIO } from "../frame/virtio.ts";
import type { Framing } from "../framing.ts";
import {
  FRAME_MIN,
  HEADER,
  REASON_MAX,
  TYPE,
  writeClose,
  writeHeader,
  writeHello,
  writePair,
} from "../message.ts";
import { IOVEC, type Stream } from "../transport/stream.ts";
import { FairQueue } from "./fair-queue.ts";
import { FLOWS, flowOf } from "./flow.ts";
import { LARGE, LEAD, SMALL, threadPool } from "./frame-pool.ts";
import type { Window } from "./window.ts";

/** Messages and bytes of frames that are promised to the stream at a time. */
const ENTRIES = 32;
const COMMIT = 131_072;
/** Bytes of pings and the like that wait at most, and of the last word behind them. */
const PINGS = 256;
const WORDS = PINGS + HEADER + REASON_MAX;
/** What flows that have little to send may send beyond the window, bytes. */
const OVERDRAFT = 6000;
/** Writes in one go, so that one fast stream leaves time to the others. */
const WRITES = 8;
/** How long a part of a super-frame may keep others waiting, ms. */
const SLICE = 2;

export class Sender {
  framesOut = 0;
  bytesOut = 0;
  /** Frames that could not be taken: longer than any frame can be, no memory. */
  lost = 0;
  /** The peer takes offloaded frames. */
  offload = false;
  /** Set when the peer acknowledges frames. */
  window: Window | undefined;
  #queue: FairQueue | undefined;
  readonly #salt = Math.floor(Math.random() * 0x1_0000_0000) | 0;
  /** Two halves: in one, words are put; the other is being written. */
  readonly #words = allocate(2 * WORDS);
  #half = 0;
  #wordsEnd = 0;
  #ackAt = -1;
  readonly #vector = allocate(IOVEC * ENTRIES);
  readonly #vectorWords = new Uint32Array(this.#vector.bytes.buffer);
  readonly #slots = new Int32Array(ENTRIES);
  #first = 0;
  #entries = 0;
  /** Bytes of a message's header that do not leave: the rest is the length, which is all that the original framing has. */
  readonly #skip: number;

  readonly #frameMax: number;

  /** @param mtu of the node's network, bytes: the longest frame follows from it in a framing without HELLO. */
  constructor(
    readonly framing: Framing,
    mtu: number,
  ) {
    this.#skip = HEADER - framing.header;
    this.#frameMax = framing.frameMax(mtu);
  }

  get queued(): number {
    return this.#queue?.bytes ?? 0;
  }
  get queueDelay(): number {
    return this.queued === 0 ? 0 : (this.#queue?.delay ?? 0);
  }
  get dropped(): number {
    return this.lost + (this.#queue?.overflow ?? 0) + (this.#queue?.drops ?? 0);
  }
  get marked(): number {
    return this.#queue?.marks ?? 0;
  }

  /** Something could be written if the stream took it. */
  get waiting(): boolean {
    if (this.#first < this.#entries || this.#wordsEnd > 0) return true;
    const queue = this.#queue;
    if (queue === undefined || queue.frames === 0) return false;
    const { window } = this;
    return (
      window === undefined ||
      window.inFlight < window.size ||
      (queue.sparse && window.inFlight < window.size + OVERDRAFT)
    );
  }

  hello(mtu: number, features: number): void {
    this.#wordsEnd += writeHello(this.#words.bytes, this.#half + this.#wordsEnd, mtu, features);
  }

  /** A ping or its answer, ahead of the queue; left out when too many wait already. */
  ping(type: typeof TYPE.ping | typeof TYPE.pong, high: number, low: number): void {
    if (this.#wordsEnd + 2 * (HEADER + 8) > PINGS) return;
    this.#wordsEnd += writePair(this.#words.bytes, this.#half + this.#wordsEnd, type, high, low);
  }

  /** An acknowledgement, in the place of one that did not leave yet. There is always room for one. */
  ack(total: number, delay: number): void {
    if (this.#ackAt < 0) {
      this.#ackAt = this.#half + this.#wordsEnd;
      this.#wordsEnd += HEADER + 8;
    }
    writePair(this.#words.bytes, this.#ackAt, TYPE.ack, total, delay);
  }

  /** The last word. Frames that wait in the queue are given up. */
  close(reason: string): void {
    this.#queue?.clear();
    if (!this.framing.messages) return;
    this.#wordsEnd += writeClose(this.#words.bytes, this.#half + this.#wordsEnd, reason);
  }

  /**
   * Read one frame from the TAP and queue it.
   * @param vnet it comes with a virtio-net header.
   * @returns bytes read, or -errno (-EAGAIN: there is none).
   */
  pull(tap: number, vnet: boolean, now: number): number {
    const pool = threadPool();
    const { bytes, address } = pool.memory;
    const header = pool.offset(pool.spare) + LEAD;
    const frame = header + VIRTIO;
    const into = vnet ? header : frame;
    const room = pool.offset(pool.spare) + LARGE - into;
    const n = libc.read(tap, at(address + into), room);
    if (n < 0) return -errno();
    const end = into + n;
    const offloaded = vnet && isOffloaded(bytes, header);
    // A frame that fills the slot may have been cut off.
    const fits = end - frame >= FRAME_MIN && n < room && (offloaded || end - frame <= this.#frameMax);
    if (!fits || (offloaded && !this.offload && !plain(bytes, header, end))) {
      this.lost++;
      return n;
    }
    const start = offloaded && this.offload ? header - HEADER : frame - HEADER;
    writeHeader(bytes, start, start < header ? TYPE.offloaded : TYPE.frame, end - start - HEADER);
    this.#queue ??= new FairQueue(pool, FLOWS);
    const flow = flowOf(bytes, frame, end, this.#salt);
    const slot = this.#keep(this.#queue, start, end - start);
    if (slot < 0) this.lost++;
    else this.#queue.push(slot, flow, now);
    return n;
  }

  /** A slot with the message of the spare slot, or the spare slot itself if it is a long one; -1 = no room. */
  #keep(queue: FairQueue, start: number, length: number): number {
    const pool = threadPool();
    const small = length <= SMALL;
    let slot = small ? pool.take(length) : pool.takeLarge();
    while (slot < 0 && queue.dropLongest()) slot = small ? pool.take(length) : pool.takeLarge();
    if (slot < 0) return -1;
    if (small) {
      const to = pool.offset(slot);
      pool.copy(to, start, length);
      pool.start[slot] = to;
    } else {
      const taken = pool.spare;
      pool.spare = slot;
      slot = taken;
      pool.start[slot] = start;
    }
    pool.length[slot] = length;
    return slot;
  }

  /** Write what the stream takes now. Returns the bytes it took, or -errno when it is broken. */
  flush(stream: Stream, now: number): number {
    let taken = 0;
    for (let i = 0; i < WRITES; i++) {
      // What it would not take is not promised to it, either: it may be dropped, or overtaken.
      if (stream.blocked || stream.pending) break;
      if (this.#first === this.#entries && !this.#commit(now)) break;
      const n = stream.writev(this.#vector, this.#vectorWords, this.#first, this.#entries - this.#first);
      if (n === -EAGAIN) break;
      if (n < 0) return n;
      taken += n;
      this.#advance(n);
      if (this.#first < this.#entries) break;
    }
    return taken;
  }

  /** Promise the stream what may leave now. False: nothing. */
  #commit(now: number): boolean {
    this.#first = this.#entries = 0;
    if (this.#wordsEnd > 0) {
      this.#entry(this.#words.address + this.#half, this.#wordsEnd, -1);
      this.#half = this.#half === 0 ? WORDS : 0;
      this.#wordsEnd = 0;
      this.#ackAt = -1;
    }
    const queue = this.#queue;
    if (queue === undefined || queue.frames === 0) return this.#entries > 0;
    const { window } = this;
    const pool = threadPool();
    const { bytes, address } = pool.memory;
    let sum = 0;
    while (this.#entries < ENTRIES && sum < COMMIT && queue.frames > 0) {
      const over = window === undefined ? -1 : window.inFlight + sum - window.size;
      if (over >= 0 && (!queue.sparse || over >= OVERDRAFT)) break;
      const slot = queue.pop(now, over >= 0);
      if (slot < 0) break;
      const start = pool.start[slot] ?? 0;
      const length = pool.length[slot] ?? 0;
      this.#entry(address + start + this.#skip, length - this.#skip, slot);
      sum += length;
      this.framesOut++;
      this.bytesOut += length - HEADER - (bytes[start] === TYPE.offloaded ? VIRTIO : 0);
    }
    if (sum > 0) window?.sent(sum, queue.frames > 0, now);
    return this.#entries > 0;
  }

  #entry(address: number, length: number, slot: number): void {
    const word = 4 * this.#entries;
    this.#vectorWords[word] = address;
    this.#vectorWords[word + 1] = address / 0x1_0000_0000;
    this.#vectorWords[word + 2] = length;
    this.#vectorWords[word + 3] = 0;
    this.#slots[this.#entries++] = slot;
  }

  /** So many bytes of the promised were taken. */
  #advance(count: number): void {
    let left = count;
    while (left > 0) {
      const word = 4 * this.#first;
      const length = this.#vectorWords[word + 2] ?? 0;
      if (left < length) {
        const low = (this.#vectorWords[word] ?? 0) + left;
        this.#vectorWords[word] = low;
        if (low >= 0x1_0000_0000) this.#vectorWords[word + 1] = (this.#vectorWords[word + 1] ?? 0) + 1;
        this.#vectorWords[word + 2] = length - left;
        return;
      }
      left -= length;
      this.#free(this.#first++);
    }
  }

  #free(entry: number): void {
    const slot = this.#slots[entry] ?? -1;
    if (slot >= 0) threadPool().free(slot);
  }

  /** Put queue and slices in proportion to what is known of the path. */
  tune(): void {
    const queue = this.#queue;
    const window = this.window;
    if (queue === undefined || window === undefined || window.rate === 0) return;
    queue.slice = Math.max(SMALL, window.rate * SLICE);
    queue.quantum = Math.min(LARGE, Math.max(1514, window.rate));
    // Only the flow itself waits behind its queue, so it may be long enough to bridge a halved TCP window.
    queue.target = 15 + window.minRtt / 2;
    queue.interval = 100 + 2 * window.minRtt;
  }

  /** Give everything back to the pool. */
  dispose(): void {
    this.#queue?.clear();
    for (; this.#first < this.#entries; this.#first++) this.#free(this.#first);
    this.#wordsEnd = 0;
  }
}

/** Make an offloaded frame that the peer cannot take a plain one. False: it is more than one. */
function plain(bytes: Uint8Array, header: number, end: number): boolean {
  if (bytes[header + 1] !== GSO_NONE) return false;
  const start = header + VIRTIO;
  return complete(bytes, start + littleU16(bytes, header + 6), littleU16(bytes, header + 8), start, end);
}
