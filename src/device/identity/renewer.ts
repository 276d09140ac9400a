/** Renews the certificate while the tunnel is up: soon after the start, and then whenever the server said. */

import { messageOf } from "../../errors.ts";
import { sleep, withJitter } from "../../linux/sleep.ts";

/**
 * Milliseconds from the start of the device until the first renewal, at the earliest. The age of the
 * certificate is unknown at the start, because the clock may be wrong, so that it is renewed in any case. The
 * wait keeps the renewal out of the way of the virtual machine's first packets.
 */
const FIRST = 2000;
/** Milliseconds to wait after a renewal that failed: the wait is doubled from the first to the last. */
const RETRY_FIRST = 5000;
const RETRY_LAST = 600_000;
/** Milliseconds that a timer can wait at most: 2^31 - 1, about 24 days. An earlier renewal does no harm. */
const LONGEST = 2_147_483_647;

/** Time for the renewer; a parameter for tests. */
export interface Clock {
  /** ms on a clock that only goes forward. */
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Knows when the next renewal is due, also while no tunnel is up. */
export class Renewer {
  #dueAt: number;

  constructor(readonly clock: Clock = { now: () => performance.now(), sleep }) {
    this.#dueAt = clock.now() + FIRST;
  }

  /** When the next renewal is due, by the device's own clock, in ISO 8601. */
  get due(): string {
    return new Date(Date.now() + Math.max(0, this.#dueAt - this.clock.now())).toISOString();
  }

  /** Set the next renewal to be due in `ms` milliseconds. */
  schedule(ms: number): void {
    this.#dueAt = this.clock.now() + Math.min(ms, LONGEST);
  }

  /**
   * Renew whenever it is due, until `signal` is aborted. It never rejects.
   * @param renew renews the certificate, and returns the milliseconds after which to renew it again.
   * @param trouble called with a message when a renewal failed.
   */
  async run(
    renew: () => Promise<number>,
    trouble: (why: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    for (let retry = RETRY_FIRST; ; ) {
      await this.clock.sleep(Math.max(0, this.#dueAt - this.clock.now()), signal);
      if (signal.aborted) return;
      try {
        this.schedule(await renew());
        retry = RETRY_FIRST;
      } catch (error) {
        if (signal.aborted) return;
        trouble(`the certificate was not renewed: ${messageOf(error)}`);
        this.schedule(withJitter(retry));
        retry = Math.min(retry * 2, RETRY_LAST);
      }
    }
  }
}
