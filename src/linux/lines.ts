/** Splits a stream of bytes into lines of bounded length. */

import type { Readable } from "node:stream";
import { messageOf, WaltError } from "../errors.ts";

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

/**
 * Read a stream line by line until it ends or `signal` is aborted. The next line is not read before `take` is
 * done with this one, and the stream is left paused. What stands behind the last newline is no line.
 * @param name of the stream, for the error
 * @param max longest line, in bytes
 * @returns whether the stream has ended.
 * @throws WaltError when a line is longer than `max`; what `take` throws; the stream's own error.
 */
export async function readLines(
  stream: Readable,
  name: string,
  max: number,
  signal: AbortSignal,
  take: (line: string) => void | Promise<void>,
): Promise<boolean> {
  const cutter = new LineCutter(max);
  const { promise: end, resolve, reject } = Promise.withResolvers<boolean>();
  let over = false;
  const deal = async (bytes: Buffer): Promise<void> => {
    let lines: string[];
    try {
      lines = cutter.push(bytes);
    } catch (error) {
      throw new WaltError(`${name}: ${messageOf(error)}`, { cause: error });
    }
    for (const line of lines) if (!over) await take(line);
  };
  /** What is being dealt with. The end of the stream may be told meanwhile. */
  let work = Promise.resolve();
  const data = (bytes: Buffer): void => {
    stream.pause();
    work = work.then(() => deal(bytes));
    work.then(() => over || stream.resume(), reject);
  };
  const stop = (): void => resolve(false);
  const ended = (): void => void work.then(() => resolve(true), reject);
  if (signal.aborted) return false;
  signal.addEventListener("abort", stop, { once: true });
  stream.on("data", data).once("end", ended).once("close", ended).once("error", reject);
  stream.resume();
  try {
    return await end;
  } finally {
    over = true;
    signal.removeEventListener("abort", stop);
    stream.off("data", data).off("end", ended).off("close", ended).off("error", reject);
    stream.pause();
  }
}
