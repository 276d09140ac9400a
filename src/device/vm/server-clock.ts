/**
 * The time of day for the virtual machine's real-time clock: that of the server. A Raspberry Pi has no clock of its
 * own, and its system need not have set one.
 */

import { sleep } from "../../linux/sleep.ts";

/**
 * Milliseconds that the first machine waits for the server's time, which comes just after the tunnel. Servers of
 * before, and those of WalT's own VPN, do not tell it.
 */
const PATIENCE = 3000;

export class ServerClock {
  /** The server's time when the clock `now` was at 0, ms since 1970. */
  #zero: number | undefined;
  readonly #told = Promise.withResolvers<void>();

  /** @param now a clock in ms that nobody sets. */
  constructor(readonly now: () => number = () => performance.now()) {}

  /** The server has said what time it is, in ms since 1970. */
  tell(time: number): void {
    this.#zero = time - this.now();
    this.#told.resolve();
  }

  /** The time of day; undefined when the server has not told it soon enough, and thus the board's own counts. */
  async time(signal: AbortSignal, patience = PATIENCE): Promise<Date | undefined> {
    if (this.#zero === undefined) {
      const enough = new AbortController();
      await Promise.race([this.#told.promise, sleep(patience, AbortSignal.any([signal, enough.signal]))]);
      enough.abort();
    }
    return this.#zero === undefined ? undefined : new Date(this.#zero + this.now());
  }
}
