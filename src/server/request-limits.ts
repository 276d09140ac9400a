/**
 * How many requests for access may wait, and how fast new ones may come: from each source, and in all. No
 * I/O, time is given.
 */

import { TokenBucket } from "../token-bucket.ts";

/**
 * Requests that may wait at once. Each holds a connection: fewer than the endpoint has for the enrolment key.
 */
export const MAX_WAITING = 128;

/** New requests that are shown: so many at once, then so many a second. */
const RATES = { source: { burst: 64, perSecond: 1 }, all: { burst: 128, perSecond: 4 } } as const;
/** Sources whose rate is known at once. */
const MAX_SOURCES = 4096;

export class RequestLimits {
  readonly #waiting = new Map<string, number>();
  readonly #sources = new Map<string, TokenBucket>();
  #all: TokenBucket | undefined;
  #total = 0;

  /**
   * Whether one more request of this source may wait from `now` (ms) on; then it has a place until `leave`. A
   * source may have as many places as are still free: half of all for the first, half of the rest for the
   * second, so that there is always one for a source that has none yet.
   */
  enter(source: string, now: number): boolean {
    const own = this.#waiting.get(source) ?? 0;
    if (own >= MAX_WAITING - this.#total) return false;
    const bucket = this.#bucketOf(source, now);
    this.#all ??= new TokenBucket(RATES.all, now);
    if (bucket === undefined || !bucket.has(now) || !this.#all.take(now)) return false;
    bucket.take(now);
    this.#waiting.set(source, own + 1);
    this.#total++;
    return true;
  }

  /** A request that has entered waits no more. */
  leave(source: string): void {
    const own = this.#waiting.get(source);
    if (own === undefined) return;
    this.#total--;
    if (own === 1) this.#waiting.delete(source);
    else this.#waiting.set(source, own - 1);
  }

  /** Undefined when too many sources are known already. */
  #bucketOf(source: string, now: number): TokenBucket | undefined {
    const known = this.#sources.get(source);
    if (known !== undefined) return known;
    if (this.#sources.size >= MAX_SOURCES) {
      for (const [other, bucket] of this.#sources)
        if (bucket.tokens(now) >= RATES.source.burst) this.#sources.delete(other);
      if (this.#sources.size >= MAX_SOURCES) return undefined;
    }
    const bucket = new TokenBucket(RATES.source, now);
    this.#sources.set(source, bucket);
    return bucket;
  }
}
