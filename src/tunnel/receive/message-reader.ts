/** The bytes of a stream cut into messages: bounded, without a copy, whole or in pieces as they come. */

import { readU16 } from "../../bytes.ts";
import { BufferPool } from "../../linux/buffer-pool.ts";
import type { Memory } from "../../linux/libc.ts";
import type { Framing } from "../framing.ts";
import { frameProblem, HEADER, headerProblem, lengthAt, PAYLOAD_MAX, TYPE } from "../message.ts";
import { STREAM_ROOM } from "../transport/stream.ts";

/** What is in front of a message may be overwritten while it is handled: room for a virtio-net header, also before the first. */
const MARGIN = 16;
/** Room for the largest message, and when all but its last byte are there, for what the stream may bring then. */
const SIZE = MARGIN + HEADER + PAYLOAD_MAX + STREAM_ROOM;
/** Buffers of this thread (modules are per thread). */
const spares = new BufferPool(SIZE);

export class MessageReader {
  #memory: Memory | undefined;
  /** Of the message that `next()` found: its type, and where in `memory` its payload lies, in bytes. */
  type = 0;
  offset = 0;
  length = 0;
  /** What is wrong with the stream, in words. From then on nothing is found in it. */
  problem: string | undefined;
  #start = MARGIN;
  #end = MARGIN;
  readonly #framing: Framing;
  readonly #frameMax: number;

  /** @param mtu of the node's network, bytes: the longest frame follows from it in a framing without HELLO. */
  constructor(framing: Framing, mtu: number) {
    this.#framing = framing;
    this.#frameMax = framing.frameMax(mtu);
  }

  /** Where the next bytes of the stream belong in `memory`. There is room once `next()` has returned false. */
  get end(): number {
    return this.#end;
  }
  get room(): number {
    return Math.max(SIZE - STREAM_ROOM - this.#end, STREAM_ROOM);
  }
  /** The stream is between two messages. */
  get empty(): boolean {
    return this.#start === this.#end;
  }

  /** A buffer that is borrowed from here to `giveBack`: a stream on which nothing comes needs none. */
  get memory(): Memory {
    this.#memory ??= spares.take();
    return this.#memory;
  }

  /** Call when what came has been handled; `all`: also what is left of it is of no more use. */
  giveBack(all = false): void {
    if (this.#memory === undefined || !(all || this.empty)) return;
    spares.give(this.#memory);
    this.#memory = undefined;
    this.#start = this.#end = MARGIN;
  }

  /** So many bytes were put at `end`. */
  filled(count: number): void {
    this.#end += count;
  }

  /** Find the next message; it stays where it is until the next call. False: more bytes are needed, or `problem`. */
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
    if (this.#start > MARGIN) {
      bytes.copyWithin(MARGIN, this.#start, this.#end);
      this.#start = MARGIN;
      this.#end = MARGIN + have;
    }
    return false;
  }
}
