/**
 * Split the bytes of a stream into messages. Messages may come whole or in pieces. They are not copied, and
 * memory is bounded.
 *
 * The caller reads bytes of the stream to `memory` at `end`, at most `room` of them, and calls `filled`. It
 * then calls `next` until that returns false, and at last `giveBack`.
 */

import { readU16 } from "../../bytes.ts";
import { BufferPool } from "../../linux/buffer-pool.ts";
import type { Memory } from "../../linux/libc.ts";
import type { Framing } from "../framing.ts";
import { frameProblem, HEADER, headerProblem, lengthAt, PAYLOAD_MAX, TYPE } from "../message.ts";
import { STREAM_ROOM } from "../transport/stream.ts";

/**
 * Bytes kept free in front of the first message. The receiver writes a virtio-net header in front of a frame,
 * over the header of its message and what comes before.
 */
const MARGIN = 16;
/** Bytes of a buffer: the largest message, and STREAM_ROOM more for when all of it but one byte has come. */
const SIZE = MARGIN + HEADER + PAYLOAD_MAX + STREAM_ROOM;
/** The buffers of this thread. Each thread has its own copy of this module. */
const buffers = new BufferPool(SIZE);

export class MessageReader {
  #memory: Memory | undefined;
  /** Type of the message that `next` found (TYPE of message.ts); TYPE.frame in the original framing. */
  type = 0;
  /** Where its payload begins in `memory`. */
  offset = 0;
  /** Bytes of its payload. */
  length = 0;
  /**
   * What is wrong with the stream, in words that continue "the peer sent". From then on `next` returns false.
   */
  problem: string | undefined;
  /** Where the bytes begin that are not handled yet. */
  #start = MARGIN;
  /** Where they end. */
  #end = MARGIN;
  readonly #framing: Framing;
  /** Bytes of the longest frame. */
  readonly #frameMax: number;

  /**
   * @param mtu of the node's network, bytes. In a framing without HELLO it decides how long a frame may be.
   */
  constructor(framing: Framing, mtu: number) {
    this.#framing = framing;
    this.#frameMax = framing.frameMax(mtu);
  }

  /** Where in `memory` the next bytes of the stream belong. */
  get end(): number {
    return this.#end;
  }
  /** How many bytes may be put there: STREAM_ROOM at least, once `next` has returned false. */
  get room(): number {
    return Math.max(SIZE - STREAM_ROOM - this.#end, STREAM_ROOM);
  }
  /** Whether the stream is between two messages. */
  get empty(): boolean {
    return this.#start === this.#end;
  }

  /** The buffer, borrowed from its first use until `giveBack`, so that an idle stream needs none. */
  get memory(): Memory {
    this.#memory ??= buffers.take();
    return this.#memory;
  }

  /** Give the buffer back, unless a part of a message is in it. @param all discard that part too. */
  giveBack(all = false): void {
    if (this.#memory === undefined || !(all || this.empty)) return;
    buffers.give(this.#memory);
    this.#memory = undefined;
    this.#start = this.#end = MARGIN;
  }

  /** Take note that `count` bytes were put at `end`. */
  filled(count: number): void {
    this.#end += count;
  }

  /**
   * Find the next message. It stays where it is until the next call.
   * @returns false if more bytes are needed, or `problem` is set.
   */
  next(): boolean {
    if (this.problem !== undefined) return false;
    const have = this.#end - this.#start;
    if (have === 0) {
      this.#start = this.#end = MARGIN;
      return false;
    }
    const { bytes } = this.memory;
    const { messages, header } = this.#framing;
    if (have >= header) {
      const type = messages ? (bytes[this.#start] ?? 0) : TYPE.frame;
      const length = messages ? lengthAt(bytes, this.#start) : readU16(bytes, this.#start);
      this.problem = messages ? headerProblem(type, length) : frameProblem(length, this.#frameMax);
      if (this.problem !== undefined) return false;
      if (have >= header + length) {
        this.type = type;
        this.offset = this.#start + header;
        this.length = length;
        this.#start += header + length;
        return true;
      }
    }
    // The beginning of a message moves to the front, so that all of it fits in.
    if (this.#start > MARGIN) {
      bytes.copyWithin(MARGIN, this.#start, this.#end);
      this.#start = MARGIN;
      this.#end = MARGIN + have;
    }
    return false;
  }
}
