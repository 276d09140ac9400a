/** The bytes of a stream cut into messages: bounded, without a copy, whole or in pieces as they come. */

import { allocate, type Memory } from "../linux/libc.ts";
import { HEADER, headerProblem, lengthAt, PAYLOAD_MAX } from "./message.ts";

/** What is in front of a message may be overwritten while it is handled: room for a virtio-net header, also before the first. */
const MARGIN = 16;
/** Room for the largest message. */
const SIZE = MARGIN + HEADER + PAYLOAD_MAX;

export class MessageReader {
  readonly memory: Memory = allocate(SIZE);
  /** Of the message that `next()` found: its type, and where in `memory` its payload lies, in bytes. */
  type = 0;
  offset = 0;
  length = 0;
  /** What is wrong with the stream, in words. From then on nothing is found in it. */
  problem: string | undefined;
  #start = MARGIN;
  #end = MARGIN;

  /** Where the next bytes of the stream belong in `memory`. There is room once `next()` has returned false. */
  get end(): number {
    return this.#end;
  }
  get room(): number {
    return SIZE - this.#end;
  }
  /** The stream is between two messages. */
  get empty(): boolean {
    return this.#start === this.#end;
  }

  /** So many bytes were put at `end`. */
  filled(count: number): void {
    this.#end += count;
  }

  /** Find the next message; it stays where it is until the next call. False: more bytes are needed, or `problem`. */
  next(): boolean {
    if (this.problem !== undefined) return false;
    const { bytes } = this.memory;
    const have = this.#end - this.#start;
    if (have >= HEADER) {
      const type = bytes[this.#start] ?? 0;
      const length = lengthAt(bytes, this.#start);
      this.problem = headerProblem(type, length);
      if (this.problem !== undefined) return false;
      if (have >= HEADER + length) {
        this.type = type;
        this.offset = this.#start + HEADER;
        this.length = length;
        this.#start += HEADER + length;
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
