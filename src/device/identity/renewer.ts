/** When to fetch the next certificate while the tunnel is up: soon after the start, and then as the server says. */

import { messageOf } from "../../errors.ts";
import { sleep, withJitter } from "../../linux/sleep.ts";

/**
 * After the start the clock cannot be trusted to tell the certificate's age, so that one is fetched in any case: this many
 * ms after the tunnel is up, out of the way of the virtual machine's first packets.
 */
const FIRST = 2000;
/** Waits after a renewal that failed, ms: doubled from the first to the last. */
const RETRY_FIRST = 5000;
const RETRY_LAST = 600_000;
/** Longest time that a timer can wait, ms: 2^31 - 1 (about 24 days). To renew earlier than told does no harm. */
const LONGEST = 2_147_483_647;

/** Time for the renewer; a parameter for tests. */
export interface Clock {
  /** ms on a clock that only goes forward. */
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export class Renewer {
  #dueAt: number;

  constructor(readonly clock: Clock = { now: () => performance.now(), sleep }) {
    this.#dueAt = clock.now() + FIRST;
  }

  /** When the next renewal is due, by the device's own clock. ISO 8601. */
  get due(): string {
    return new Date(Date.now() + Math.max(0, this.#dueAt - this.clock.now())).toISOString();
  }

  /** A certificate was given: the next one in `ms`. */
  given(ms: number): void {
    this.#dueAt = this.clock.now() + Math.min(ms, LONGEST);
  }

  /** Renew whenever it is due, until `signal` is aborted. `renew` gives the ms after which to do it again. */
  async run(
    renew: () => Promise<number>,
    trouble: (why: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    for (let retry = RETRY_FIRST; ; ) {
      await this.clock.sleep(Math.max(0, this.#dueAt - this.clock.now()), signal);
      if (signal.aborted) return;
      try {
        this.given(await renew());
        retry = RETRY_FIRST;
      } catch (error) {
        if (signal.aborted) return;
        trouble(`the certificate was not renewed: ${messageOf(error)}`);
        this.given(withJitter(retry));
        retry = Math.min(retry * 2, RETRY_LAST);
      }
    }
  }
}
