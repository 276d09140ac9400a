/** Splits a stream of bytes into lines of bounded length. */

import { WaltError } from "../errors.ts";

/** Splits one stream. It keeps the bytes of the line that is not complete yet, at most `max` of them. */
export class LineCutter {
  #rest: Buffer = Buffer.alloc(0);

  /** @param max bytes that a line may have, without its newline. */
  constructor(readonly max: number) {}

  /**
   * Add the next bytes of the stream, and return the lines that are complete now, without their newlines.
   * @throws WaltError as soon as a line is longer than `max` bytes.
   */
  push(bytes: Uint8Array): string[] {
    const lines: string[] = [];
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const end = this.#rest.indexOf(10);
      if (end > this.max || (end < 0 && this.#rest.length > this.max)) {
        this.#rest = Buffer.alloc(0); // a peer must not make us keep its bytes
        throw new WaltError(`a line is longer than ${this.max} bytes`);
      }
      if (end < 0) return lines;
      lines.push(this.#rest.toString("utf8", 0, end));
      this.#rest = this.#rest.subarray(end + 1);
    }
  }
}
