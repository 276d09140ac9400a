/** How many lines of the log strangers may cause: a limit for each source and one for all together. */

import { type Rate, TokenBucket } from "./token-bucket.ts";

export interface LogLimits {
  /** Of one source. */
  source: Rate;
  /** Of all sources together. */
  all: Rate;
}

/**
 * Sources that are remembered. Beyond that, the one that was not heard of for the longest time is forgotten.
 */
export const SOURCES = 4096;

/** What one source may still write, and how many of its lines were left out since its last one. */
interface Source {
  readonly bucket: TokenBucket;
  missed: number;
}

/** Does no input or output: the caller writes its line or not, and says what time it is. */
export class LogBudget {
  /** By name, the one heard of last at the end. */
  readonly #sources = new Map<string, Source>();
  readonly #all: TokenBucket;
  #leftOut = 0;

  /** `now` is in ms of a clock that only goes forwards, here and below. */
  constructor(
    private readonly limits: LogLimits,
    now: number,
  ) {
    this.#all = new TokenBucket(limits.all, now);
  }

  /**
   * Ask whether a line that `source` caused may be written now.
   * @returns how many of its lines were left out before this one; undefined when it is left out itself.
   */
  take(source: string, now: number): number | undefined {
    const own = this.#sources.get(source) ?? { bucket: new TokenBucket(this.limits.source, now), missed: 0 };
    this.#sources.delete(source);
    this.#sources.set(source, own);
    const [oldest] = this.#sources.keys();
    if (this.#sources.size > SOURCES && oldest !== undefined) this.#sources.delete(oldest);
    if (!own.bucket.has(now) || !this.#all.take(now)) {
      own.missed++;
      this.#leftOut++;
      return undefined;
    }
    own.bucket.take(now);
    const { missed } = own;
    own.missed = 0;
    return missed;
  }

  /** How many lines of all sources were left out since the last call. */
  leftOut(): number {
    const count = this.#leftOut;
    this.#leftOut = 0;
    return count;
  }
}

/**
 * Counts the lines about one connection: the first of each kind is worth writing, the others only their
 * number.
 */
export class FirstOfKind {
  readonly #counts = new Map<string, number>();

  /** Whether this is the first line of its kind. Kinds are the program's own, so there are few. */
  add(kind: string): boolean {
    const count = this.#counts.get(kind) ?? 0;
    this.#counts.set(kind, count + 1);
    return count === 0;
  }

  /** Kinds of which there was more than one line, with the number of all their lines. */
  repeated(): [kind: string, count: number][] {
    return [...this.#counts].filter(([, count]) => count > 1);
  }
}
