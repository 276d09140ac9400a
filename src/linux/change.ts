/** Tells those who wait that something has changed. */

/**
 * A change that readers of a shared record wait for. Look at the record first, and call `next` only if
 * nothing is there: no change is missed, because nothing else runs between the two.
 */
export class Change {
  readonly #waiting = new Set<() => void>();

  /** Wake all who wait now. */
  tell(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Resolves at the next `tell`, or when `signal` is aborted. It never rejects. */
  next(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => {
      this.#waiting.delete(wake);
      signal.removeEventListener("abort", wake);
      resolve();
    };
    this.#waiting.add(wake);
    signal.addEventListener("abort", wake);
    if (signal.aborted) wake();
    return promise;
  }
}
