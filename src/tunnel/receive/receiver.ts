/**
 * One lane's way from the peer: its stream's bytes to messages. The functions below stand in this order:
 *
 * 1. `read` reads bytes from the stream into a buffer. The buffer is borrowed, and given back as soon as it
 *    is empty (message-reader.ts).
 * 2. `#message` handles each complete message where it lies in the buffer. Frames go to the tunnel's sink
 *    (frame-sink.ts), all other messages to the link (`ControlMessages`).
 * 3. `acknowledge` tells the peer from time to time how many bytes of frames have come, which opens the
 *    peer's window.
 */

import { readU16, readU32 } from "../../bytes.ts";
import type { End } from "../../end.ts";
import { EAGAIN, errnoName } from "../../linux/libc.ts";
import { safeText } from "../../text.ts";
import { FLOWS } from "../frame/flow.ts";
import type { Framing } from "../framing.ts";
import { HEADER, NUMBER_LENGTH, REASON_MAX, TYPE } from "../message.ts";
import type { Stream } from "../transport/stream.ts";
import type { FrameSink } from "./frame-sink.ts";
import { MessageReader } from "./message-reader.ts";

/**
 * Messages that are handled in one turn, so that a link with many small ones leaves time to the others: each
 * costs a write to the TAP. The frames of 1500 bytes in a packet of SSH are fewer.
 */
const MESSAGES_A_TURN = 32;
/** Bytes that are acknowledged at once. */
const ACK_BYTES = 262_144;
/** From this many bytes on, the next acknowledgement is sent ACK_PAUSE ms after the one before. */
const ACK_SOME = 3000;
const ACK_PAUSE = 1;
/** Fewer bytes are acknowledged this many ms after the first of them came. */
const ACK_LAST = 5;

/** The part of a link that the receiver uses: its state, and what to do with messages that are not frames. */
export interface ControlMessages {
  /** The peer's HELLO has come, or the framing has none. Before it, only HELLO and CLOSE are allowed. */
  readonly up: boolean;
  /** The link is neither ending nor over. */
  readonly open: boolean;
  /** The peer may number frames. */
  readonly lanes: boolean;
  /** The peer numbers all frames from here on. */
  numbering(): void;
  /** A HELLO came. Its payload begins at `offset`. */
  hello(bytes: Uint8Array, offset: number): void;
  /** A PING came. Its payload is a u64 in two halves. */
  ping(high: number, low: number): void;
  /** A PONG came. Its payload is a u64 in two halves. */
  pong(high: number, low: number): void;
  /**
   * An ACK came.
   * @param total bytes that the peer has received since the beginning, modulo 2^32.
   * @param delay µs from the arrival of the last of them until the ACK.
   */
  acknowledged(total: number, delay: number): void;
  /**
   * Send an ACK to the peer.
   * @param total bytes received since the beginning, modulo 2^32.
   * @param delay µs since the last of them came.
   */
  sendAck(total: number, delay: number): void;
  /** End the link, and tell the peer why. */
  stop(end: End): void;
  /** End the link at once: the stream cannot be used any more. */
  stopNow(end: End): void;
}

export interface ReceiverOptions {
  readonly stream: Stream;
  readonly framing: Framing;
  /** MTU of the node's network, bytes. */
  readonly mtu: number;
  /** Takes the frames. */
  readonly sink: FrameSink;
}

export class Receiver {
  /** When bytes last came from the stream, ms of performance.now(). */
  heard: number;
  /** The peer expects acknowledgements. Set by the link. */
  acknowledges = false;
  readonly #reader: MessageReader;
  readonly #stream: Stream;
  readonly #sink: FrameSink;
  /** Messages that may still be handled in this turn. */
  #budget = 0;
  /** Messages that came are left for the next turn. */
  #backlog = false;
  /** Bytes of frames that came since the beginning, headers of messages included, modulo 2^32. */
  #received = 0;
  /** How many of them are not acknowledged yet. */
  #unacked = 0;
  /** When the first of the unacknowledged bytes came, ms. */
  #unackedFirst = 0;
  /** When the last of the unacknowledged bytes came, ms. */
  #unackedLast = 0;
  /** When the last acknowledgement was sent, ms. */
  #ackTime = 0;

  constructor(
    o: ReceiverOptions,
    readonly control: ControlMessages,
    now: number,
  ) {
    this.#stream = o.stream;
    this.#sink = o.sink;
    this.#reader = new MessageReader(o.framing, o.mtu);
    this.heard = now;
  }

  /** Something that came is not handled yet: `read` goes on with it, whether the stream has more or not. */
  get more(): boolean {
    return this.#backlog || this.#stream.more;
  }

  /**
   * Read what the stream has, and handle it, as long as the link is open: at most MESSAGES_A_TURN.
   * @param now ms.
   * @returns whether bytes came.
   */
  read(now: number): boolean {
    const stream = this.#stream;
    const reader = this.#reader;
    const { control } = this;
    this.#budget = MESSAGES_A_TURN;
    let came = this.#backlog;
    if (this.#backlog && !this.#handle(now)) return came;
    const n = stream.read(reader.memory, reader.end, reader.room, now);
    if (n <= 0) {
      if (n === 0) this.#ended();
      else if (n !== -EAGAIN)
        control.stopNow({ kind: "broken", text: `the stream failed (${errnoName(-n)})` });
      reader.giveBack();
      return came;
    }
    came = true;
    this.heard = now;
    reader.filled(n);
    this.#handle(now);
    return came;
  }

  /**
   * Handle the messages that have come whole.
   * @returns whether more may be read: the link is open, and the turn is not over.
   */
  #handle(now: number): boolean {
    const reader = this.#reader;
    const { control } = this;
    this.#backlog = false;
    while (control.open && reader.next()) {
      this.#message(now);
      if (--this.#budget > 0) continue;
      this.#backlog = control.open;
      return false;
    }
    if (control.open && reader.problem !== undefined) this.#malformed(reader.problem);
    reader.giveBack();
    return control.open;
  }

  /**
   * Read what the stream has, and discard it. A link that is ending needs no more frames, but CLOSE can leave
   * only while the stream reads SSH's own messages.
   * @returns false if the stream has ended or failed.
   */
  discard(now: number): boolean {
    const reader = this.#reader;
    this.#backlog = false;
    reader.giveBack(true);
    const n = this.#stream.read(reader.memory, reader.end, reader.room, now);
    reader.giveBack(true);
    return n > 0 || n === -EAGAIN;
  }

  #message(now: number): void {
    const { type, offset, length, memory } = this.#reader;
    if (!this.control.up && type !== TYPE.hello && type !== TYPE.close) {
      this.#malformed("a message before its HELLO");
      return;
    }
    switch (type) {
      case TYPE.frame:
        this.#count(HEADER + length, now);
        this.#sink.frame(memory, false, offset, length, now);
        break;
      case TYPE.offloaded:
        if (!this.#takes(true)) break;
        this.#count(HEADER + length, now);
        this.#sink.frame(memory, true, offset, length, now);
        break;
      case TYPE.numbered:
      case TYPE.numberedOffloaded: {
        const offloaded = type === TYPE.numberedOffloaded;
        const flow = readU16(memory.bytes, offset);
        if (!this.#takes(offloaded, flow)) break;
        this.#count(HEADER + length, now);
        const number = readU32(memory.bytes, offset + 2);
        const left = length - NUMBER_LENGTH;
        this.#sink.numbered(flow, number, offloaded, memory, offset + NUMBER_LENGTH, left, now);
        break;
      }
      case TYPE.numbering:
        if (this.#takes(false, 0)) this.control.numbering();
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

  /**
   * Whether such a frame may come. If not, the link ends.
   * @param flow of a numbered frame.
   */
  #takes(offloaded: boolean, flow?: number): boolean {
    if (offloaded && !this.#sink.vnet) {
      this.#malformed("an offloaded frame, although this end did not offer offloads");
    } else if (flow !== undefined && !this.control.lanes) {
      this.#malformed("a numbered frame, although the ends did not agree on lanes");
    } else if (flow !== undefined && flow >= FLOWS) {
      this.#malformed(`a frame of flow ${flow}, not 0 to ${FLOWS - 1}`);
    } else {
      return true;
    }
    return false;
  }

  #count(bytes: number, now: number): void {
    if (!this.acknowledges) return;
    this.#received = (this.#received + bytes) >>> 0;
    if (this.#unacked === 0) this.#unackedFirst = now;
    this.#unackedLast = now;
    this.#unacked += bytes;
  }

  /**
   * When the next acknowledgement is due, ms of performance.now(); infinite = nothing is to be acknowledged.
   */
  get ackDue(): number {
    if (this.#unacked === 0) return Number.POSITIVE_INFINITY;
    return this.#unacked >= ACK_SOME ? this.#ackTime + ACK_PAUSE : this.#unackedFirst + ACK_LAST;
  }

  /** Send an acknowledgement if one is due. @returns whether the link has one to write to the stream. */
  acknowledge(now: number): boolean {
    if (this.#unacked === 0 || (this.#unacked < ACK_BYTES && now < this.ackDue)) return false;
    this.control.sendAck(this.#received, Math.round((now - this.#unackedLast) * 1000));
    this.#unacked = 0;
    this.#ackTime = now;
    return true;
  }

  /** Give the reader's buffer back. The receiver is not used any more. */
  free(): void {
    this.#reader.giveBack(true);
  }

  #closed(reason: Uint8Array): void {
    const words = safeText(new TextDecoder().decode(reason), REASON_MAX);
    const text = words === "" ? "the peer ended the tunnel" : `the peer ended the tunnel: ${words}`;
    this.control.stopNow({ kind: "closed-by-peer", text });
  }

  #ended(): void {
    const text = this.#reader.empty
      ? "the peer closed the stream"
      : "the peer closed the stream in the middle of a message";
    this.control.stopNow(this.#stream.end ?? { kind: "closed", text });
  }

  #malformed(problem: string): void {
    this.control.stop({ kind: "malformed", text: `the peer sent ${problem}` });
  }
}
