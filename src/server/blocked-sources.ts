/** Sources whose requests for access operators do not want to see for a while. No I/O, time is given. */

/** ms for which a source is blocked: an hour. Behind a proxy all boards have one source. */
const BLOCKED_FOR = 3_600_000;
/** Sources that are blocked at once; of more the one that was blocked first is free again. */
const MAX_BLOCKED = 256;

export class BlockedSources {
  /** Until when, ms; the one that was blocked first at the front. */
  readonly #until = new Map<string, number>();

  /** @returns until when it is blocked, ms. */
  block(source: string, now: number): number {
    this.#until.delete(source);
    const [first] = this.#until.keys();
    if (first !== undefined && this.#until.size >= MAX_BLOCKED) this.#until.delete(first);
    this.#until.set(source, now + BLOCKED_FOR);
    return now + BLOCKED_FOR;
  }

  has(source: string, now: number): boolean {
    const until = this.#until.get(source);
    if (until === undefined) return false;
    // A clock that was set back must not block for longer.
    if (now < until && until - now <= BLOCKED_FOR) return true;
    this.#until.delete(source);
    return false;
  }
}
