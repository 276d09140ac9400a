/** Sends a log to whoever has asked for it. */

import { PIECE_MAX, type PieceStream, type Place } from "../../control/pieces.ts";

/** Which lines of a log are wanted. */
export interface TailOptions {
  /** The last so many of the lines that are there; all of them unless given. */
  readonly lines?: number | undefined;
  /** Whether to go on with the lines that come, until the asker has gone. */
  readonly follow: boolean;
  /** Only the lines behind this place, which may be of another log's, if they are still kept. */
  readonly after?: Place | undefined;
}

/** Some lines of a log. */
export interface Lines {
  /** The lines, each with its end. */
  readonly text: string;
  /** How many lines of the log came before the next one. */
  readonly next: number;
}

/** A log of which the last lines are kept. */
export interface LineLog {
  /** Tells this log from those of other runs. */
  readonly ring: string;
  /**
   * Lines, some at a time. A reader who is slow misses lines; a line in their place says how
   * many. With `follow` it ends when `signal` is aborted.
   * @throws WaltError when the log cannot be read.
   */
  read(o: TailOptions, signal: AbortSignal): AsyncIterable<Lines>;
}

/**
 * Send lines of a log: first those that are there, then with `follow` those that come. Resolves when all is
 * sent, or the asker has gone.
 * @throws WaltError when the log cannot be read.
 */
export async function tail(log: LineLog, o: TailOptions, stream: PieceStream): Promise<void> {
  const encoder = new TextEncoder();
  let position = o.after?.ring === log.ring ? o.after.position : 0;
  try {
    for await (const { text, next } of log.read(o, stream.gone)) {
      const bytes = encoder.encode(text);
      for (let at = 0; at < bytes.length && !stream.gone.aborted; at += PIECE_MAX) {
        const part = bytes.subarray(at, at + PIECE_MAX);
        if (at + part.length === bytes.length) position = next;
        await stream.show({ bytes: part, place: { ring: log.ring, position }, writes: false });
      }
    }
  } catch (error) {
    if (!stream.gone.aborted) throw error;
  }
}

/** The line in place of those that a reader was too slow for. */
export const missedLine = (count: number): string => `[walt: ${count} lines left out]\n`;
