/** Sources whose requests for access operators do not want to see for a while. No I/O, time is given. */

/** ms for which a source is blocked: an hour. Behind a proxy all boards have one source. */
const BLOCKED_FOR = 3_600_000;
/** Sources that are blocked at once; of more the one that was blocked first is free again. */
const MAX_BLOCKED = 256;

export interface BlockedSource {
  readonly source: string;
  /** The operator who blocked it. */
  readonly by: string;
  /** When, and until when, ms. */
  readonly at: number;
  readonly until: number;
}

export class BlockedSources {
  /** By source, the one that was blocked first at the front. */
  readonly #blocked = new Map<string, BlockedSource>();

  block(source: string, by: string, now: number): void {
    this.#blocked.delete(source);
    const [first] = this.#blocked.keys();
    if (first !== undefined && this.#blocked.size >= MAX_BLOCKED) this.#blocked.delete(first);
    this.#blocked.set(source, { source, by, at: now, until: now + BLOCKED_FOR });
  }

  has(source: string, now: number): boolean {
    const until = this.#blocked.get(source)?.until;
    if (until === undefined) return false;
    // A clock that was set back must not block for longer.
    if (now < until && until - now <= BLOCKED_FOR) return true;
    this.#blocked.delete(source);
    return false;
  }

  list(now: number): BlockedSource[] {
    return [...this.#blocked.values()].filter(({ source }) => this.has(source, now));
  }

  /** @returns whether it was blocked. */
  lift(source: string, now: number): boolean {
    return this.has(source, now) && this.#blocked.delete(source);
  }
}
