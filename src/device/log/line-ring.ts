/** The last lines of a log, in memory of bounded size. Writing never waits, however slow the readers are. */

import { randomBytes } from "node:crypto";
import { Change } from "../../linux/change.ts";
import { safeText } from "../../text.ts";
import { type LineLog, type Lines, missedLine, type TailOptions } from "./tail.ts";

/** Bytes that a ring keeps unless told otherwise: some 500 lines. */
export const LINES_KEPT = 65_536;
/** Characters of a line at most; a longer one is cut. */
export const LONGEST_LINE = 2000;
/** Bytes that JavaScript needs for a line besides its text, roughly. */
const OVERHEAD = 64;
/** Bytes that a reader takes at a time at most, if they are more than one line. */
const PIECE = 8192;

/** Lines with their times. A line's number is how many came before it. */
export class LineRing implements LineLog {
  readonly ring = randomBytes(8).toString("hex");
  /** The lines that are kept, each with its end. The first one has the number `#first`. */
  #lines: Buffer[] = [];
  #first = 0;
  #bytes = 0;
  readonly #change = new Change();

  /**
   * @param limit bytes that are kept.
   * @param now the time of a line that is added.
   */
  constructor(
    readonly limit = LINES_KEPT,
    readonly now: () => Date = () => new Date(),
  ) {}

  /** Bytes in use, with what JavaScript needs for each line. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Add a line, which is cut and made printable. The oldest lines make room for it. */
  readonly add = (text: string): void => {
    const line = Buffer.from(`${this.now().toISOString()} ${safeText(text, LONGEST_LINE)}\n`);
    this.#lines.push(line);
    this.#bytes += line.length + OVERHEAD;
    while (this.#bytes > this.limit && this.#lines.length > 1) {
      this.#bytes -= (this.#lines.shift()?.length ?? 0) + OVERHEAD;
      this.#first++;
    }
    this.#change.tell();
  };

  async *read({ lines = Infinity, follow, after }: TailOptions, signal: AbortSignal): AsyncGenerator<Lines> {
    const end = this.#end;
    /** The number of the line to be read next. */
    let next = Math.max(this.#first, end - lines);
    if (after?.ring === this.ring) next = Math.min(after.position, end);
    for (;;) {
      if (next < this.#first) {
        const text = missedLine(this.#first - next);
        next = this.#first;
        yield { text, next };
      }
      if (signal.aborted || (!follow && next >= end)) return;
      const piece = this.#from(next);
      next += piece.length;
      if (piece.length > 0) yield { text: Buffer.concat(piece).toString(), next };
      else await this.#change.next(signal);
    }
  }

  /** The number of the line that comes next. */
  get #end(): number {
    return this.#first + this.#lines.length;
  }

  /** Lines from this number on, which are PIECE bytes together at most; one line in any case. */
  #from(next: number): Buffer[] {
    const piece: Buffer[] = [];
    let bytes = 0;
    for (let at = next - this.#first; at < this.#lines.length; at++) {
      const line = this.#lines[at] ?? Buffer.alloc(0);
      bytes += line.length;
      if (bytes > PIECE && piece.length > 0) break;
      piece.push(line);
    }
    return piece;
  }
}
