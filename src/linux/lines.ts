/** Lines of bounded length out of a stream of bytes. */

import { WaltError } from "../errors.ts";

/** Cuts a stream into lines. A line longer than `max` bytes is an error as soon as the bound is passed. */
export class LineCutter {
  #rest: Buffer = Buffer.alloc(0);

  constructor(readonly max: number) {}

  /**
   * The complete lines that these bytes end, without their newlines.
   * @throws WaltError when a line is longer than `max` bytes.
   */
  push(bytes: Uint8Array): string[] {
    const lines: string[] = [];
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const end = this.#rest.indexOf(10);
      if (end > this.max || (end < 0 && this.#rest.length > this.max)) {
        this.#rest = Buffer.alloc(0); // whoever sends it is not given our memory, too
        throw new WaltError(`a line of more than ${this.max} bytes`);
      }
      if (end < 0) return lines;
      lines.push(this.#rest.toString("utf8", 0, end));
      this.#rest = this.#rest.subarray(end + 1);
    }
  }
}
