/**
 * A limit on how often something may happen: a number of times at once, and from then on at a steady rate.
 */

export interface Rate {
  /** How many times at once. */
  burst: number;
  /** How many times a second after that. */
  perSecond: number;
}

/** Times are ms of one clock. A clock that is set back costs no more than what would have come since the last call. */
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

  /** How many times it may happen at once now. */
  tokens(now: number): number {
    const { burst, perSecond } = this.rate;
    this.#tokens = Math.min(burst, this.#tokens + (Math.max(0, now - this.#at) / 1000) * perSecond);
    this.#at = now;
    return this.#tokens;
  }

  /** Whether `take` would succeed. */
  has(now: number): boolean {
    return this.tokens(now) >= 1;
  }

  /** Whether it may happen once more; if so it counts. */
  take(now: number): boolean {
    if (!this.has(now)) return false;
    this.#tokens -= 1;
    return true;
  }
}
