/** The pause of a loop that does one thing after the other: it never turns without end, whatever fails in it. */

import { TokenBucket } from "../token-bucket.ts";
import { sleep } from "./sleep.ts";

/** So many turns at once, and in a second after that: far more than a loop needs in which nothing fails. */
const TURNS = { burst: 30, perSecond: 5 };

export class Pace {
  readonly #turns = new TokenBucket(TURNS, performance.now());

  /** Resolves when the next turn may begin, or `signal` is aborted. It never rejects. */
  async turn(signal: AbortSignal): Promise<void> {
    while (!signal.aborted && !this.#turns.take(performance.now()))
      await sleep(1000 / TURNS.perSecond, signal);
  }
}
