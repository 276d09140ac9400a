/**
 * The way of a frame from the stream to the TAP. The functions below stand in this order:
 *
 * 1. `read`: the stream has bytes; they are put into a buffer that is borrowed for as long as something is in it.
 * 2. `#message`: a message that has come whole is handled where it lies. What is no frame is the link's (`ControlMessages`).
 * 3. `#frame`: the virtio-net header is made safe, and on the server the guard decides whether the frame may pass.
 * 4. `#deliver`: one write(2) to the TAP.
 * 5. `acknowledge`: the peer is told how many bytes of frames came, which opens its window.
 */

import { readU32 } from "../../bytes.ts";
import type { End } from "../../end.ts";
import { at, EAGAIN, EBADFD, errno, errnoName, libc, type Memory } from "../../linux/libc.ts";
import { safeText } from "../../text.ts";
import { sanitise, segmentsOf, VIRTIO } from "../frame/virtio.ts";
import type { Framing } from "../framing.ts";
import { HEADER, REASON_MAX, TYPE } from "../message.ts";
import type { Stream } from "../transport/stream.ts";
import { GroupLimit, parseMac, refusal } from "./guard.ts";
import { MessageReader } from "./message-reader.ts";

/** Messages that are handled in one turn, so that a link with many small ones leaves time to the others; ordinary frames fill a read. */
const MESSAGES_A_TURN = 128;
/** Acknowledge this many bytes at once, fewer after ACK_PAUSE ms, and the last few after ACK_LAST ms. */
const ACK_BYTES = 262_144;
const ACK_SOME = 3000;
const ACK_PAUSE = 1;
const ACK_LAST = 5;

/** What the receiver hands to the link. */
export interface ControlMessages {
  /** The peer's HELLO has come: what may come before it is HELLO and CLOSE alone. */
  readonly up: boolean;
  /** The link is neither ending nor over. */
  readonly open: boolean;
  /** The payload of a HELLO stands at `offset`. */
  hello(bytes: Uint8Array, offset: number): void;
  /** The payload of a PING or PONG as two halves of a u64. */
  ping(high: number, low: number): void;
  pong(high: number, low: number): void;
  /** The peer got so many bytes of frames in all, the last of them `delay` µs before it said so. */
  acknowledged(total: number, delay: number): void;
  /** Say to the peer that so many bytes of frames came, the last of them `delay` µs ago. */
  sendAck(total: number, delay: number): void;
  /** The link cannot go on; the peer can still be told. */
  close(end: End): void;
  /** The stream is of no more use. */
  lost(end: End): void;
}

export interface ReceiverOptions {
  readonly stream: Stream;
  readonly framing: Framing;
  /** Of the node's network, bytes. */
  readonly mtu: number;
  /** Frames go to the TAP with a virtio-net header. */
  readonly vnet: boolean;
  /** The one source MAC that frames may have; undefined: the peer is trusted. */
  readonly guard: string | undefined;
}

export class Receiver {
  /** Of frames that were written to the TAP. */
  frames = 0;
  bytes = 0;
  /** Frames that the guard refused, and those that the TAP did not take. */
  refused = 0;
  lost = 0;
  /** When something came last, ms of performance.now(). */
  heard: number;
  /** The peer wants to be told what came. */
  acknowledges = false;
  readonly #reader: MessageReader;
  readonly #stream: Stream;
  readonly #vnet: boolean;
  readonly #guard: Uint8Array | undefined;
  readonly #groups = new GroupLimit();
  /** Messages that may still be handled in this turn; whether some that came are left for the next one. */
  #budget = 0;
  #backlog = false;
  /** Bytes of frames that came, modulo 2^32; those that are not acknowledged yet; when the first and the last of these came. */
  #received = 0;
  #unacked = 0;
  #unackedFirst = 0;
  #unackedLast = 0;
  #ackTime = 0;

  constructor(
    o: ReceiverOptions,
    readonly control: ControlMessages,
    now: number,
  ) {
    this.#stream = o.stream;
    this.#vnet = o.vnet;
    this.#guard = o.guard === undefined ? undefined : parseMac(o.guard);
    this.#reader = new MessageReader(o.framing, o.mtu);
    this.heard = now;
  }

  /** Something that came is not handled yet: `read` goes on with it, whether the stream has more or not. */
  get more(): boolean {
    return this.#backlog || this.#stream.more;
  }

  /**
   * Read what the stream has, and handle it, for as long as the link is open: no more than MESSAGES_A_TURN.
   * @param tap file descriptor of the TAP.
   * @returns whether something came.
   */
  read(tap: number, now: number): boolean {
    const stream = this.#stream;
    const reader = this.#reader;
    const { control } = this;
    this.#budget = MESSAGES_A_TURN;
    let came = this.#backlog;
    if (this.#backlog && !this.#handle(tap, now)) return came;
    do {
      const n = stream.read(reader.memory, reader.end, reader.room, now);
      if (n <= 0) {
        if (n === 0) this.#ended();
        else if (n !== -EAGAIN) control.lost({ kind: "broken", text: `the stream broke (${errnoName(-n)})` });
        reader.giveBack();
        break;
      }
      came = true;
      this.heard = now;
      reader.filled(n);
    } while (this.#handle(tap, now) && stream.more);
    return came;
  }

  /** Handle the messages that have come whole. @returns whether more may be read: the link is open, and the turn not over. */
  #handle(tap: number, now: number): boolean {
    const reader = this.#reader;
    const { control } = this;
    this.#backlog = false;
    while (control.open && reader.next()) {
      this.#message(tap, now);
      if (--this.#budget > 0) continue;
      this.#backlog = control.open;
      return false;
    }
    if (control.open && reader.problem !== undefined) this.#malformed(reader.problem);
    reader.giveBack();
    return control.open;
  }

  /** Read while the last word leaves: frames are of no use any more, but SSH's own messages are. False: the stream has ended. */
  discard(now: number): boolean {
    const reader = this.#reader;
    this.#backlog = false;
    reader.giveBack(true);
    const n = this.#stream.read(reader.memory, reader.end, reader.room, now);
    reader.giveBack(true);
    return n > 0 || n === -EAGAIN;
  }

  #message(tap: number, now: number): void {
    const { type, offset, length, memory } = this.#reader;
    if (!this.control.up && type !== TYPE.hello && type !== TYPE.close) {
      this.#malformed("a message before its hello");
      return;
    }
    switch (type) {
      case TYPE.frame:
        this.#count(HEADER + length, now);
        this.#frame(tap, memory, false, offset, length, now);
        break;
      case TYPE.offloaded:
        if (!this.#vnet) {
          this.#malformed("an offloaded frame, which was not asked for");
          break;
        }
        this.#count(HEADER + length, now);
        this.#frame(tap, memory, true, offset, length, now);
        break;
      case TYPE.ack:
        this.control.acknowledged(readU32(memory.bytes, offset), readU32(memory.bytes, offset + 4));
        break;
      case TYPE.ping:
        this.control.ping(readU32(memory.bytes, offset), readU32(memory.bytes, offset + 4));
        break;
      case TYPE.pong:
        this.control.pong(readU32(memory.bytes, offset), readU32(memory.bytes, offset + 4));
        break;
      case TYPE.hello:
        this.control.hello(memory.bytes, offset);
        break;
      default:
        this.#closed(memory.bytes.subarray(offset, offset + length));
    }
  }

  #frame(tap: number, memory: Memory, offloaded: boolean, offset: number, length: number, now: number): void {
    const end = offset + length;
    const guard = this.#guard;
    // The reader leaves room in front of every message.
    const header = offloaded ? offset : offset - VIRTIO;
    const frame = header + VIRTIO;
    const sane = !offloaded || sanitise(memory.bytes, header, end, guard === undefined);
    if (!sane) {
      this.refused++;
      return;
    }
    if (!offloaded) memory.bytes.fill(0, header, frame);
    if (guard !== undefined && this.#refuses(memory.bytes, guard, header, end, now)) {
      this.refused++;
      return;
    }
    const from = this.#vnet ? header : frame;
    this.#deliver(tap, memory.address + from, end - from, end - frame);
  }

  /** @param header offset of the virtio-net header; the frame follows, up to `end`. */
  #refuses(bytes: Uint8Array, guard: Uint8Array, header: number, end: number, now: number): boolean {
    const frame = header + VIRTIO;
    const length = end - frame;
    if (refusal(bytes, frame, length, guard) !== undefined) return true;
    const group = ((bytes[frame] ?? 0) & 1) !== 0;
    return group && !this.#groups.allows(segmentsOf(bytes, header, end), length, now);
  }

  #deliver(tap: number, address: number, length: number, frame: number): void {
    if (libc.write(tap, at(address), length) >= 0) {
      this.frames++;
      this.bytes += frame;
    } else if (errno() === EBADFD) {
      this.control.close({ kind: "tap", text: "the TAP is gone" });
    } else {
      // A TAP that is down says EIO, one whose host is short of memory ENOMEM or ENOBUFS: frames may get lost on a network.
      this.lost++;
    }
  }

  #count(bytes: number, now: number): void {
    if (!this.acknowledges) return;
    this.#received = (this.#received + bytes) >>> 0;
    if (this.#unacked === 0) this.#unackedFirst = now;
    this.#unackedLast = now;
    this.#unacked += bytes;
  }

  /** When the next acknowledgement has to leave, ms of performance.now(). */
  get ackDue(): number {
    if (this.#unacked === 0) return Number.POSITIVE_INFINITY;
    return this.#unacked >= ACK_SOME ? this.#ackTime + ACK_PAUSE : this.#unackedFirst + ACK_LAST;
  }

  /** Tell the peer what came, if it is time. @returns whether an acknowledgement is to be sent. */
  acknowledge(now: number): boolean {
    if (this.#unacked === 0 || (this.#unacked < ACK_BYTES && now < this.ackDue)) return false;
    this.control.sendAck(this.#received, Math.round((now - this.#unackedLast) * 1000));
    this.#unacked = 0;
    this.#ackTime = now;
    return true;
  }

  /** Give back what was borrowed. */
  dispose(): void {
    this.#reader.giveBack(true);
  }

  #closed(reason: Uint8Array): void {
    const words = safeText(new TextDecoder().decode(reason), REASON_MAX);
    const text = words === "" ? "the peer ended the tunnel" : `the peer ended the tunnel: ${words}`;
    this.control.lost({ kind: "closed-by-peer", text });
  }

  #ended(): void {
    const text = this.#reader.empty
      ? "the peer's end of the stream is closed"
      : "the stream ended inside a message";
    this.control.lost(this.#stream.end ?? { kind: "closed", text });
  }

  #malformed(problem: string): void {
    this.control.close({ kind: "malformed", text: `the peer sent ${problem}` });
  }
}
