/**
 * The way of a frame from the TAP to the stream. The functions below stand in this order:
 *
 * 1. `pull` reads one frame from the TAP into the spare slot of the pool (frame-pool.ts), and writes the
 *    message's header in front of it.
 * 2. `#keep` moves a short frame into a shorter slot. If the pool is full, the queue that holds most of it
 *    loses frames.
 * 3. `pull` adds the frame to the queue of its flow (flow.ts, fair-queue.ts). Only the queue drops or marks
 *    frames because of congestion.
 * 4. `flush` runs when the stream can take bytes: it repeats steps 5 and 6.
 * 5. `#commit` takes as many frames from the queue as the window allows (window.ts). The queue splits
 *    super-frames for a slow path (super-frame.ts). A committed message is never dropped, as a part of it may
 *    be in the stream already.
 * 6. `flush` writes the committed messages to the stream, and `#advance` gives the slots of those that were
 *    taken back to the pool.
 *
 * Control messages (HELLO, PING, PONG, ACK, CLOSE) do not wait in the queue: `#commit` puts them in front of
 * the frames.
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
import { LARGE, LEAD, SLOT_BYTES, SMALL, threadPool } from "./frame-pool.ts";
import type { Window } from "./window.ts";

/** Buffers that are committed at a time: one for all control messages, and one for each frame. */
const ENTRIES = 32;
/**
 * No further frame is committed once this many bytes of slots are: 2 large ones, 13 medium or 32 small ones. So
 * much is held by a link that takes nothing, and cannot be taken from it.
 */
const COMMIT_BYTES = 131_072;
/** Bytes of control messages that may wait, apart from CLOSE. */
const CONTROL_MAX = 256;
/** Bytes of all control messages that may wait: CLOSE comes last, so there is always room for it. */
const CONTROL_ROOM = CONTROL_MAX + HEADER + REASON_MAX;
/** Bytes that flows which send little may send beyond the window. */
const OVERDRAFT = 6000;
/** Writes in one call of `flush`, so that one fast stream leaves time to the others. */
const WRITES = 8;
/** How long the transmission of one part of a super-frame may take, ms: other frames wait behind it. */
const SLICE_TIME = 2;

export class Sender {
  /** Frames committed to the stream since the beginning. */
  framesOut = 0;
  /** Bytes of those frames, without headers of messages and of virtio-net. */
  bytesOut = 0;
  /** Frames that were read and not queued: too short, too long, not for this peer, or no memory was left. */
  lost = 0;
  /** The peer takes offloaded frames. Set by the link. */
  offload = false;
  /** Set by the link if the peer acknowledges frames. Without it only the stream limits the sending. */
  window: Window | undefined;
  /** Made for the first frame: an idle link needs none. */
  #queue: FairQueue | undefined;
  /** See `flowOf`. */
  readonly #salt = Math.floor(Math.random() * 0x1_0000_0000) | 0;
  /** Control messages, in two halves: new ones are written into one half while the stream takes the other. */
  readonly #control = allocate(2 * CONTROL_ROOM);
  /** Where the half for new control messages begins. */
  #half = 0;
  /** Bytes in that half. */
  #controlLength = 0;
  /** Where an ACK waits in `#control`; -1 = none waits. */
  #ackAt = -1;
  /** What is committed: an array of struct iovec for writev(2). */
  readonly #vector = allocate(IOVEC * ENTRIES);
  /** The same memory as 32-bit words, four of them for each entry. */
  readonly #vectorWords = new Uint32Array(this.#vector.bytes.buffer);
  /** The slot of each entry; -1 = control messages. */
  readonly #slots = new Int32Array(ENTRIES);
  /** The first entry that the stream has not taken completely. */
  #first = 0;
  /** How many entries there are. The committed ones are `#first` to `#entries` - 1. */
  #entries = 0;
  /**
   * Bytes at the beginning of each message that are not sent. The original framing has a header of two bytes,
   * which equals the last two bytes of a message's header.
   */
  readonly #skip: number;
  /** Bytes of the longest frame. */
  readonly #frameMax: number;

  /**
   * @param framing how frames are told apart in the stream.
   * @param mtu of the node's network, bytes. In a framing without HELLO it decides how long a frame may be.
   */
  constructor(
    readonly framing: Framing,
    mtu: number,
  ) {
    this.#skip = HEADER - framing.header;
    this.#frameMax = framing.frameMax(mtu);
  }

  /** Bytes that wait in the queue. */
  get queued(): number {
    return this.#queue?.bytes ?? 0;
  }
  /** How long frames wait in the queue, ms, a moving average; 0 while none waits. */
  get queueDelay(): number {
    return this.queued === 0 ? 0 : (this.#queue?.delay ?? 0);
  }
  /** Frames dropped since the beginning, for whatever reason. */
  get dropped(): number {
    return this.lost + (this.#queue?.overflow ?? 0) + (this.#queue?.drops ?? 0);
  }
  /** Frames marked (ECN) since the beginning. */
  get marked(): number {
    return this.#queue?.marks ?? 0;
  }

  /** Whether there is anything to write: committed or control messages, or frames that the window allows. */
  get waiting(): boolean {
    if (this.#first < this.#entries || this.#controlLength > 0) return true;
    const queue = this.#queue;
    if (queue === undefined || queue.frames === 0) return false;
    const { window } = this;
    return window === undefined || window.room > 0 || (queue.sparse && window.room > -OVERDRAFT);
  }

  /** Send HELLO. @param mtu bytes. @param features FEATURE_ bits (message.ts). */
  hello(mtu: number, features: number): void {
    this.#controlLength += writeHello(this.#control.bytes, this.#half + this.#controlLength, mtu, features);
  }

  /**
   * Send a PING or PONG, ahead of the queue. It is left out if too many control messages wait already.
   * @param high upper half of the payload, a u64.
   * @param low its lower half.
   */
  ping(type: typeof TYPE.ping | typeof TYPE.pong, high: number, low: number): void {
    if (this.#controlLength + 2 * (HEADER + 8) > CONTROL_MAX) return;
    this.#controlLength += writePair(this.#control.bytes, this.#half + this.#controlLength, type, high, low);
  }

  /**
   * Send an ACK. It replaces one that still waits, as only the newest counts. There is always room for it,
   * since `ping` leaves room for one.
   * @param total bytes received since the beginning, modulo 2^32.
   * @param delay µs since the last of them came.
   */
  ack(total: number, delay: number): void {
    if (this.#ackAt < 0) {
      this.#ackAt = this.#half + this.#controlLength;
      this.#controlLength += HEADER + 8;
    }
    writePair(this.#control.bytes, this.#ackAt, TYPE.ack, total, delay);
  }

  /**
   * Send CLOSE, in a framing that has it, and drop all frames that wait in the queue.
   * @param reason is cut to fit.
   */
  close(reason: string): void {
    this.#queue?.clear();
    if (!this.framing.messages) return;
    this.#controlLength += writeClose(this.#control.bytes, this.#half + this.#controlLength, reason);
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
    this.#queue ??= new FairQueue(pool, FLOWS);
    const flow = flowOf(bytes, frame, end, this.#salt);
    const slot = this.#keep(start, end - start);
    if (slot < 0) this.lost++;
    else this.#queue.push(slot, flow, now);
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
    const claimed = pool.claim(length);
    if (claimed < 0) return -1;
    let slot = claimed;
    if (pool.sizeOf(claimed) === LARGE) {
      slot = pool.spare;
      pool.spare = claimed;
      pool.start[slot] = start;
    } else {
      const to = pool.offset(slot);
      pool.copy(to, start, length);
      pool.start[slot] = to;
    }
    pool.length[slot] = length;
    return slot;
  }

  /** Write what the stream takes now. @returns the bytes that it took, or -errno if it failed. */
  flush(stream: Stream, now: number): number {
    let taken = 0;
    for (let i = 0; i < WRITES; i++) {
      // Commit nothing that the stream cannot take now: what is not committed can still be dropped or
      // overtaken.
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

  /** Commit what may be sent now: control messages, then frames. @returns false if there is nothing. */
  #commit(now: number): boolean {
    this.#first = this.#entries = 0;
    if (this.#controlLength > 0) {
      this.#entry(this.#control.address + this.#half, this.#controlLength, -1);
      this.#half = this.#half === 0 ? CONTROL_ROOM : 0;
      this.#controlLength = 0;
      this.#ackAt = -1;
    }
    const queue = this.#queue;
    if (queue === undefined || queue.frames === 0) return this.#entries > 0;
    const { window } = this;
    const pool = threadPool();
    const { bytes, address } = pool.memory;
    let sum = 0;
    let held = 0;
    while (this.#entries < ENTRIES && held < COMMIT_BYTES && queue.frames > 0) {
      // Bytes by which the window would already be exceeded, below zero while it is open.
      const over = window === undefined ? -1 : sum - window.room;
      if (over >= 0 && (!queue.sparse || over >= OVERDRAFT)) break;
      const slot = queue.pop(now, over >= 0);
      if (slot < 0) break;
      const start = pool.start[slot] ?? 0;
      const length = pool.length[slot] ?? 0;
      this.#entry(address + start + this.#skip, length - this.#skip, slot);
      sum += length;
      held += SLOT_BYTES[pool.sizeOf(slot)];
      this.framesOut++;
      this.bytesOut += length - HEADER - (bytes[start] === TYPE.offloaded ? VIRTIO : 0);
    }
    if (sum > 0) window?.sent(sum, queue.frames > 0, now);
    return this.#entries > 0;
  }

  /** Add an entry. @param slot to be freed once the stream has taken the entry; -1 = none. */
  #entry(address: number, length: number, slot: number): void {
    const word = 4 * this.#entries;
    this.#vectorWords[word] = address;
    this.#vectorWords[word + 1] = address / 0x1_0000_0000;
    this.#vectorWords[word + 2] = length;
    this.#vectorWords[word + 3] = 0;
    this.#slots[this.#entries++] = slot;
  }

  /** The stream took `count` bytes of what is committed. Slots that it took completely return to the pool. */
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

  /** Drop what has waited too long, also where the stream takes nothing, and let the window open. @param now ms. */
  tick(now: number): void {
    this.#queue?.age(now);
    this.window?.refill(now);
  }

  /** ms until the window lets more frames go without an acknowledgement; infinite = never, or none waits. */
  get wait(): number {
    return this.#queue === undefined || this.#queue.frames === 0 || this.window === undefined
      ? Number.POSITIVE_INFINITY
      : this.window.wait;
  }

  /** Adapt the queue to the path, as the window knows it. */
  tune(): void {
    const queue = this.#queue;
    const window = this.window;
    if (queue === undefined || window === undefined || window.rate === 0) return;
    queue.slice = Math.max(SLOT_BYTES[SMALL], window.rate * SLICE_TIME);
    queue.quantum = Math.min(SLOT_BYTES[LARGE], Math.max(1514, window.rate));
    // Much longer than a router's 5 ms, as only the flow itself waits behind its own queue. What waits there is
    // what the flow has for the path when its rate rises again: with less, a path whose rate changes within
    // seconds would be empty for as long as the flow's own TCP takes to grow.
    queue.target = 100 + window.emptyRtt;
    queue.interval = 300 + 2 * window.emptyRtt;
  }

  /** Give all slots back to the pool. The sender is not used any more. */
  free(): void {
    this.#queue?.free();
    for (; this.#first < this.#entries; this.#first++) this.#free(this.#first);
    this.#controlLength = 0;
  }
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
