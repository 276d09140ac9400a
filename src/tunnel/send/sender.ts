/**
 * One lane's way to the peer: messages to its stream. The functions below stand in this order:
 *
 * 1. `flush` runs when the stream can take bytes: it repeats steps 2 and 3.
 * 2. `#commit` takes as many frames from the tunnel's source (frame-source.ts) as the lane's window allows
 *    (window.ts). A committed message is never dropped, as a part of it may be in the stream already.
 * 3. `flush` writes the committed messages to the stream, and `#advance` gives the slots of those that were
 *    taken back to the pool.
 *
 * Control messages (HELLO, PING, PONG, ACK, CLOSE) do not wait in a queue: `#commit` puts them in front of the
 * frames.
 */

import { allocate, EAGAIN } from "../../linux/libc.ts";
import { SLOT_BYTES, threadPool } from "../frame/frame-pool.ts";
import type { Framing } from "../framing.ts";
import { HEADER, REASON_MAX, TYPE, writeClose, writeHeader, writeHello, writePair } from "../message.ts";
import { IOVEC, type Stream } from "../transport/stream.ts";
import type { FrameSource } from "./frame-source.ts";
import type { Taker } from "./turns.ts";
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
/** Bytes of all control messages that may wait: there is always room for NUMBERING, and for CLOSE, which comes last. */
const CONTROL_ROOM = CONTROL_MAX + HEADER + HEADER + REASON_MAX;
/** Bytes that flows which send little may send beyond the window. */
const OVERDRAFT = 6000;
/** Writes in one call of `flush`, so that one fast stream leaves time to the others. */
const WRITES = 8;

export class Sender implements Taker {
  /** Set by the link if the peer acknowledges frames. Without it only the stream limits the sending. */
  window: Window | undefined;
  /** This lane takes frames. A further one does so from the peer's HELLO to its end. Set by the link. */
  takesFrames: boolean;
  /** No acknowledgement comes, although one is due: as of the last `look`, as the next two. */
  stalls = false;
  overdue = false;
  silent = false;
  /** The stream would take more, as of the last `look`. */
  #streamReady = true;
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

  /**
   * @param framing how frames are told apart in the stream.
   * @param source of the tunnel's frames.
   * @param further this is not the tunnel's first lane.
   */
  constructor(
    readonly framing: Framing,
    readonly source: FrameSource,
    readonly further = false,
  ) {
    this.#skip = HEADER - framing.header;
    this.takesFrames = !further;
  }

  /** Whether frames wait that this lane may send. */
  get #framesWait(): boolean {
    return this.takesFrames && this.source.waits(this.further, this.stalls);
  }

  get inFlight(): number {
    return this.window?.inFlight ?? 0;
  }

  get ready(): boolean {
    if (!this.takesFrames || !this.#streamReady || this.#first < this.#entries) return false;
    return this.window === undefined || this.window.room > 0;
  }

  /** See whether the stream takes more, and how long acknowledgements have been missing. @param now ms. */
  look(stream: Stream, now: number): void {
    const { window } = this;
    this.#streamReady = !stream.blocked && !stream.pending;
    if (window === undefined) return;
    this.stalls = window.stalls(now);
    this.overdue = window.overdue(now);
    this.silent = window.silent(now);
  }

  /** Whether there is anything to write: committed or control messages, or frames that the window allows. */
  get waiting(): boolean {
    if (this.#first < this.#entries || this.#controlLength > 0) return true;
    const { window, source, further } = this;
    if (!this.#framesWait) return false;
    if (further && !source.isTurnOf(this, 0, this.stalls)) return false;
    return (
      window === undefined ||
      window.room > 0 ||
      (source.hasSparse(further, this.stalls) && window.room > -OVERDRAFT)
    );
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
   * Send CLOSE, in a framing that has it.
   * @param reason is cut to fit.
   */
  close(reason: string): void {
    if (!this.framing.messages) return;
    this.#controlLength += writeClose(this.#control.bytes, this.#half + this.#controlLength, reason);
  }

  /** Tell the peer that all frames behind this message are numbered. There is always room for it: it is sent once. */
  numbering(): void {
    writeHeader(this.#control.bytes, this.#half + this.#controlLength, TYPE.numbering, 0);
    this.#controlLength += HEADER;
  }

  /** Write what the stream takes now. @returns the bytes that it took, or -errno if it failed. */
  flush(stream: Stream, now: number): number {
    let taken = 0;
    this.look(stream, now);
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
    this.#streamReady = !stream.blocked && !stream.pending;
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
    const { window, source, further } = this;
    const pool = threadPool();
    const { address } = pool.memory;
    let sum = 0;
    let held = 0;
    while (this.#entries < ENTRIES && held < COMMIT_BYTES && this.#framesWait) {
      // Bytes by which the window would already be exceeded, below zero while it is open.
      const over = window === undefined ? -1 : sum - window.room;
      if (over >= 0 && (!source.hasSparse(further, this.stalls) || over >= OVERDRAFT)) break;
      if (further && !source.isTurnOf(this, sum, this.stalls)) break;
      const slot = source.pop(further, over >= 0, this.stalls, now);
      if (slot < 0) break;
      const length = pool.length[slot] ?? 0;
      this.#entry(address + (pool.start[slot] ?? 0) + this.#skip, length - this.#skip, slot);
      sum += length;
      held += SLOT_BYTES[pool.sizeOf(slot)];
    }
    if (sum > 0) window?.sent(sum, this.#framesWait, now);
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

  /** ms until the window lets more frames go without an acknowledgement; infinite = never, or none waits. */
  get wait(): number {
    return this.window === undefined || !this.#framesWait ? Number.POSITIVE_INFINITY : this.window.wait;
  }

  /** Give all slots back to the pool. The sender is not used any more. */
  free(): void {
    for (; this.#first < this.#entries; this.#first++) this.#free(this.#first);
    this.#controlLength = 0;
  }
}
