/** Bytes that wait, in blocks: a byte that came alone costs a byte, not a buffer of its own. */

/** Bytes of the first block, so that a few bytes do not cost a whole one; and of the others. */
const SMALL = 4096;
const BLOCK = 64 * 1024;

export class ByteQueue {
  /** All but the last are full. */
  readonly #blocks: Buffer[] = [];
  /** Bytes in the last block. */
  #last = 0;

  get empty(): boolean {
    return this.#blocks.length === 0;
  }

  /** Add a copy of these bytes at the end. */
  add(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; ) {
      let block = this.#blocks.at(-1);
      if (block === undefined || this.#last === block.length) {
        // A block of its own, not a part of Buffer's pool, which would stay as long as any part of it.
        block = Buffer.allocUnsafeSlow(this.#blocks.length === 0 ? SMALL : BLOCK);
        this.#blocks.push(block);
        this.#last = 0;
      }
      const part = bytes.subarray(from, from + block.length - this.#last);
      block.set(part, this.#last);
      this.#last += part.length;
      from += part.length;
    }
  }

  /** Take the first block; undefined when nothing waits. */
  take(): Buffer | undefined {
    const block = this.#blocks.shift();
    return this.#blocks.length === 0 ? block?.subarray(0, this.#last) : block;
  }

  clear(): void {
    this.#blocks.length = 0;
  }
}
