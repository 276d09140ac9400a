/** A pool of buffers of one size, which are used again instead of being allocated anew. */

import { allocate, type Memory } from "./libc.ts";

/** How many unused buffers a pool keeps. */
const KEPT = 4;

/** The buffers that are not in use; each user takes one for as long as it holds data, and gives it back. */
export class BufferPool {
  readonly #spare: Memory[] = [];

  /** @param size of each buffer, in bytes. */
  constructor(readonly size: number) {}

  /** A buffer. It still has the bytes of its last use. */
  take(): Memory {
    return this.#spare.pop() ?? allocate(this.size);
  }

  /** Give a buffer back. The caller must not use it any more. */
  give(memory: Memory): void {
    if (this.#spare.length < KEPT) this.#spare.push(memory);
  }
}
