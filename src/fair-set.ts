/** A bounded set of connections, fair among their owners: the owner with most loses its oldest first. */

export class FairSet<T> {
  /** Items with their owner, the oldest first. */
  readonly #items = new Map<T, string>();
  readonly #counts = new Map<string, number>();

  /** At most `most` items in all, and `each` of one owner. */
  constructor(
    private readonly most: number,
    private readonly each = most,
  ) {}

  get size(): number {
    return this.#items.size;
  }

  /** Add an item. The one that had to go for it, if any; it is no longer in the set. */
  add(item: T, owner: string): T | undefined {
    this.#items.set(item, owner);
    const own = (this.#counts.get(owner) ?? 0) + 1;
    this.#counts.set(owner, own);
    if (own <= this.each && this.#items.size <= this.most) return undefined;
    const share = own > this.each ? own : Math.max(...this.#counts.values());
    for (const [candidate, of] of this.#items) {
      if (this.#counts.get(of) !== share || (own > this.each && of !== owner)) continue;
      this.delete(candidate);
      return candidate;
    }
    return undefined;
  }

  delete(item: T): void {
    const owner = this.#items.get(item);
    if (owner === undefined) return;
    this.#items.delete(item);
    const count = (this.#counts.get(owner) ?? 0) - 1;
    if (count > 0) this.#counts.set(owner, count);
    else this.#counts.delete(owner);
  }
}
