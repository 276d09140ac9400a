/**
 * How many requests for access may wait, and how fast new ones may come: from each source, and in all. No
 * I/O, time is given.
 */

import { isIPv6 } from "node:net";

/**
 * Requests that may wait at once. Each holds a connection: fewer than the endpoint has for the enrolment key.
 */
export const MAX_WAITING = 128;

/** New requests that are shown: so many at once, then so many a second. */
const RATES = { source: { burst: 64, perSecond: 1 }, all: { burst: 128, perSecond: 4 } } as const;
/** Sources whose rate is known at once. */
const MAX_SOURCES = 4096;

/** A token bucket. Times in ms; a clock that is set back costs no more than the time since the last call. */
class Bucket {
  #tokens: number;

  constructor(
    readonly rate: { burst: number; perSecond: number },
    private at: number,
  ) {
    this.#tokens = rate.burst;
  }

  /** The tokens there are at `now`. */
  tokens(now: number): number {
    const gained = (Math.max(0, now - this.at) / 1000) * this.rate.perSecond;
    this.at = now;
    this.#tokens = Math.min(this.rate.burst, this.#tokens + gained);
    return this.#tokens;
  }

  take(): void {
    this.#tokens--;
  }
}

/**
 * The network that an address counts for: an IPv4 address itself, of an IPv6 address its first 64 bits, which
 * one site has.
 */
export function sourceOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [before = "", after] = address.split("%")[0]?.split("::") ?? [];
  const groups = (text: string): string[] => text.split(":").filter((group) => group !== "");
  const [left, right] = [groups(before), groups(after ?? "")];
  const zeros =
    after === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  const all = [...left, ...zeros, ...right].slice(0, 4);
  return `${all.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}

export class RequestLimits {
  readonly #waiting = new Map<string, number>();
  readonly #sources = new Map<string, Bucket>();
  #all: Bucket | undefined;
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
    this.#all ??= new Bucket(RATES.all, now);
    if (bucket === undefined || bucket.tokens(now) < 1 || this.#all.tokens(now) < 1) return false;
    bucket.take();
    this.#all.take();
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
  #bucketOf(source: string, now: number): Bucket | undefined {
    const known = this.#sources.get(source);
    if (known !== undefined) return known;
    if (this.#sources.size >= MAX_SOURCES) {
      for (const [other, bucket] of this.#sources)
        if (bucket.tokens(now) >= RATES.source.burst) this.#sources.delete(other);
      if (this.#sources.size >= MAX_SOURCES) return undefined;
    }
    const bucket = new Bucket(RATES.source, now);
    this.#sources.set(source, bucket);
    return bucket;
  }
}
