/** Sends a log to whoever has asked for it. */

import { type OrderStream, WRITE_MAX } from "../../control/order-stream.ts";

/** Which lines of a log are wanted. */
export interface TailOptions {
  /** The last so many of the lines that are there; all of them unless given. */
  readonly lines?: number | undefined;
  /** Whether to go on with the lines that come, until the asker has gone. */
  readonly follow: boolean;
}

/** A log of which the last lines are kept. */
export interface LineLog {
  /**
   * Lines with their ends, some at a time. A reader who is slow misses lines; a line in their place says how
   * many. With `follow` it ends when `signal` is aborted.
   * @throws WaltError when the log cannot be read.
   */
  read(o: TailOptions, signal: AbortSignal): AsyncIterable<string>;
}

/**
 * Send lines of a log: first those that are there, then with `follow` those that come. Resolves when all is
 * sent, or the asker has gone.
 * @throws WaltError when the log cannot be read.
 */
export async function tail(log: LineLog, o: TailOptions, stream: OrderStream): Promise<void> {
  const encoder = new TextEncoder();
  try {
    for await (const text of log.read(o, stream.gone)) {
      const bytes = encoder.encode(text);
      for (let at = 0; at < bytes.length && !stream.gone.aborted; at += WRITE_MAX)
        await stream.write(bytes.subarray(at, at + WRITE_MAX));
    }
  } catch (error) {
    if (!stream.gone.aborted) throw error;
  }
}

/** The line in place of those that a reader was too slow for. */
export const missedLine = (count: number): string => `[walt: ${count} lines left out]\n`;
