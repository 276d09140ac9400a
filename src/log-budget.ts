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
const SOURCES = 1024;

/** Does no input or output: the caller writes its line or not, and says what time it is. */
export class LogBudget {
  /** By source, the one heard of last at the end. */
  readonly #sources = new Map<string, TokenBucket>();
  readonly #all: TokenBucket;
  #leftOut = 0;

  /** `now` is in ms of a clock that only goes forwards, here and below. */
  constructor(
    private readonly limits: LogLimits,
    now: number,
  ) {
    this.#all = new TokenBucket(limits.all, now);
  }

  /** Whether a line that `source` caused may be written now. If not, it is counted for `leftOut`. */
  take(source: string, now: number): boolean {
    const own = this.#sources.get(source) ?? new TokenBucket(this.limits.source, now);
    this.#sources.delete(source);
    this.#sources.set(source, own);
    if (this.#sources.size > SOURCES) {
      for (const oldest of this.#sources.keys()) {
        this.#sources.delete(oldest);
        break;
      }
    }
    if (own.has(now) && this.#all.take(now)) {
      own.take(now);
      return true;
    }
    this.#leftOut++;
    return false;
  }

  /** How many lines were left out since the last call. */
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
