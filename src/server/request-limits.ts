/**
 * Limits on how many requests for access may wait, and how fast new ones may come: from each source, and in
 * total. There is no I/O; the caller passes the time.
 */

import { TokenBucket } from "../token-bucket.ts";

/**
 * Requests that may wait at once. Each has a connection, so this is less than the endpoint's limit for
 * connections with the enrolment key.
 */
export const MAX_WAITING = 128;

/** How many new requests are shown at once, and then per second. */
const RATES = { source: { burst: 64, perSecond: 1 }, all: { burst: 128, perSecond: 4 } } as const;
/** Sources that are remembered at the same time. */
const MAX_SOURCES = 4096;

export class RequestLimits {
  readonly #waiting = new Map<string, number>();
  readonly #sources = new Map<string, TokenBucket>();
  #all: TokenBucket | undefined;
  #total = 0;

  /**
   * Whether one more request of this source may wait, from `now` (ms) on. If so, it has a place until
   * `leave`. A source may have as many places as are still free: the first source half of all, the second
   * half of the rest. So a place is always left for a source that has none.
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

  /** A request no longer waits: give its place back. */
  leave(source: string): void {
    const own = this.#waiting.get(source);
    if (own === undefined) return;
    this.#total--;
    if (own === 1) this.#waiting.delete(source);
    else this.#waiting.set(source, own - 1);
  }

  /** Undefined when too many sources are remembered. */
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
