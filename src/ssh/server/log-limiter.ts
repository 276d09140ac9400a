/**
 * A bound on what strangers can make us write into the log: so many lines for each source, and in all. Lines
 * that are left out are counted.
 */

import type { Log, LogFields } from "../../log.ts";

/** Lines at once, and then a second. */
interface Rate {
  readonly burst: number;
  readonly rate: number;
}
/** Of one source, and of all together. */
const SOURCE: Rate = { burst: 60, rate: 2 };
const ALL: Rate = { burst: 300, rate: 30 };
export const NO_LIMIT: Rate = { burst: Number.POSITIVE_INFINITY, rate: 0 };
/**
 * Sources that are remembered; beyond that the one that was not heard of for the longest time is forgotten.
 */
const SOURCES_MAX = 4096;

/** So many lines at once, and so many more each second. */
class Bucket {
  /** Lines that were left out since the last that was written. */
  missed = 0;
  #left: number;
  #at: number;

  constructor(
    readonly size: Rate,
    now: number,
  ) {
    this.#left = size.burst;
    this.#at = now;
  }

  refill(now: number): void {
    this.#left = Math.min(this.size.burst, this.#left + ((now - this.#at) / 1000) * this.size.rate);
    this.#at = now;
  }

  get has(): boolean {
    return this.#left >= 1;
  }
  take(): void {
    this.#left--;
  }
}

export class LogLimiter {
  readonly #all: Bucket;
  readonly #sources = new Map<string, Bucket>();

  /**
   * @param now a clock in ms.
   * @param all of all sources together; ones that cannot be many need no such limit.
   */
  constructor(
    readonly now: () => number = () => performance.now(),
    all: Rate = ALL,
  ) {
    this.#all = new Bucket(all, now());
  }

  /**
   * `log`, for lines that `source` causes: an address, or a node's name. Lines of level debug are not
   * counted: nobody sees them unless he asks.
   */
  limit(log: Log, source: string): Log {
    const write =
      (to: (message: string, fields?: LogFields) => void) => (message: string, fields?: LogFields) => {
        const missed = this.#ask(source);
        if (missed === undefined) return;
        if (missed > 0) log.warn("log lines were left out", { from: source, count: missed });
        to(message, fields);
      };
    return {
      debug: (message, fields) => log.debug(message, fields),
      info: write((message, fields) => log.info(message, fields)),
      warn: write((message, fields) => log.warn(message, fields)),
      error: write((message, fields) => log.error(message, fields)),
      with: (subject) => this.limit(log.with(subject), source),
    };
  }

  /** Whether a line may be written: how many were left out before it; undefined when it may not. */
  #ask(source: string): number | undefined {
    const now = this.now();
    const bucket = this.#sources.get(source) ?? new Bucket(SOURCE, now);
    // The one heard of last stands at the end.
    this.#sources.delete(source);
    this.#sources.set(source, bucket);
    const [first] = this.#sources.keys();
    if (this.#sources.size > SOURCES_MAX && first !== undefined) this.#sources.delete(first);
    bucket.refill(now);
    this.#all.refill(now);
    if (!bucket.has || !this.#all.has) {
      bucket.missed++;
      return undefined;
    }
    bucket.take();
    this.#all.take();
    const { missed } = bucket;
    bucket.missed = 0;
    return missed;
  }
}
