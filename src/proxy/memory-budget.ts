/**
 * A limit on the bytes that wait in all connections together: beyond it, the connection that holds most is
 * ended.
 */

export interface Holder {
  /** Bytes that it holds at the moment; 0 once it has ended. */
  readonly held: number;
  /** All together hold too much, and it holds most: it gives up everything that it holds. */
  exceeded(): void;
}

export class MemoryBudget {
  /** What each held when it was last asked. */
  readonly #held = new Map<Holder, number>();
  #total = 0;

  /** `limit` is in bytes. */
  constructor(private readonly limit: number) {}

  /** Bytes that all held when they were last asked. */
  get total(): number {
    return this.#total;
  }

  /** A holder may hold more or less than before. May end it, or others. */
  update(holder: Holder): void {
    this.#ask(holder);
    if (this.#total <= this.limit) return;
    for (const other of [...this.#held.keys()]) this.#ask(other);
    while (this.#total > this.limit) {
      let largest = holder;
      for (const [other, bytes] of this.#held) if (bytes > (this.#held.get(largest) ?? 0)) largest = other;
      this.#set(largest, 0);
      largest.exceeded();
    }
  }

  #ask(holder: Holder): void {
    this.#set(holder, holder.held);
  }

  #set(holder: Holder, bytes: number): void {
    this.#total += bytes - (this.#held.get(holder) ?? 0);
    if (bytes === 0) this.#held.delete(holder);
    else this.#held.set(holder, bytes);
  }
}
