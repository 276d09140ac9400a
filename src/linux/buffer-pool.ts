/** Buffers of one size that are borrowed for as long as something is in them, and used again. */

import { allocate, type Memory } from "./libc.ts";

/** How many that nobody has are kept. */
const KEPT = 4;

export class BufferPool {
  readonly #spare: Memory[] = [];

  /** @param size of each, bytes. */
  constructor(readonly size: number) {}

  /** What is in it is left from before. */
  take(): Memory {
    return this.#spare.pop() ?? allocate(this.size);
  }

  give(memory: Memory): void {
    if (this.#spare.length < KEPT) this.#spare.push(memory);
  }
}
