/** The least of the values of the last time. */

export class Least {
  /** The least value of this span. */
  #now = Number.POSITIVE_INFINITY;
  /** The least value of the span before. */
  #before = Number.POSITIVE_INFINITY;
  /** When this span began, ms. */
  #start = 0;

  /** @param span values count for one to two spans of this many ms. */
  constructor(readonly span: number) {}

  /** Infinite = there is none. */
  get value(): number {
    return Math.min(this.#now, this.#before);
  }

  add(value: number, now: number): void {
    if (now - this.#start > this.span) {
      this.#before = this.#now;
      this.#now = Number.POSITIVE_INFINITY;
      this.#start = now;
    }
    this.#now = Math.min(this.#now, value);
  }
}
