/**
 * A limit on how often something may happen: a number of times at once, and from then on at a steady rate.
 */

export interface Rate {
  /** How many times at once. */
  burst: number;
  /** How many times a second after that. */
  perSecond: number;
}

/** Times are ms of any clock that only goes forwards. */
export class TokenBucket {
  #tokens: number;
  #at: number;

  constructor(
    private readonly rate: Rate,
    now: number,
  ) {
    this.#tokens = rate.burst;
    this.#at = now;
  }

  /** Whether `take` would succeed. */
  has(now: number): boolean {
    const { burst, perSecond } = this.rate;
    this.#tokens = Math.min(burst, this.#tokens + (Math.max(0, now - this.#at) / 1000) * perSecond);
    this.#at = Math.max(this.#at, now);
    return this.#tokens >= 1;
  }

  /** Whether it may happen once more; if so it counts. */
  take(now: number): boolean {
    if (!this.has(now)) return false;
    this.#tokens -= 1;
    return true;
  }
}
