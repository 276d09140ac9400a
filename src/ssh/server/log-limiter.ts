/**
 * A bound on what strangers can make us write into the log: so many lines for each source, and in all. Lines
 * that are left out are counted.
 */

import type { EventFields, Log } from "../../log.ts";
import { type Rate, TokenBucket } from "../../token-bucket.ts";

/** Of one source, and of all together. */
const SOURCE: Rate = { burst: 60, perSecond: 2 };
const ALL: Rate = { burst: 300, perSecond: 30 };
export const NO_LIMIT: Rate = { burst: Number.POSITIVE_INFINITY, perSecond: 0 };
/**
 * Sources that are remembered; beyond that the one that was not heard of for the longest time is forgotten.
 */
const SOURCES_MAX = 4096;

/** One source: what it may still write, and how many lines were left out since its last one. */
interface Source {
  readonly bucket: TokenBucket;
  missed: number;
}

export class LogLimiter {
  readonly #all: TokenBucket;
  readonly #sources = new Map<string, Source>();

  /**
   * @param now a clock in ms.
   * @param all of all sources together; ones that cannot be many need no such limit.
   */
  constructor(
    readonly now: () => number = () => performance.now(),
    all: Rate = ALL,
  ) {
    this.#all = new TokenBucket(all, now());
  }

  /**
   * `log`, for lines that `source` causes: an address, or a node's name. Lines of level debug are not
   * counted: nobody sees them unless he asks.
   */
  limit(log: Log, source: string): Log {
    const write =
      (to: (message: string, fields: EventFields) => void) => (message: string, fields: EventFields) => {
        const missed = this.#ask(source);
        if (missed === undefined) return;
        if (missed > 0)
          log.warn("log lines were left out", { event: "lines-left-out", from: source, count: missed });
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
    const own = this.#sources.get(source) ?? { bucket: new TokenBucket(SOURCE, now), missed: 0 };
    // The one heard of last stands at the end.
    this.#sources.delete(source);
    this.#sources.set(source, own);
    const [first] = this.#sources.keys();
    if (this.#sources.size > SOURCES_MAX && first !== undefined) this.#sources.delete(first);
    if (!own.bucket.has(now) || !this.#all.take(now)) {
      own.missed++;
      return undefined;
    }
    own.bucket.take(now);
    const { missed } = own;
    own.missed = 0;
    return missed;
  }
}
