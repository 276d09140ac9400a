/**
 * Cross traffic: what others send over the same path. Whoever sends as much as goes by TCP keeps the queue of a
 * router filled, and this finds out whether such a queue stands there.
 *
 * What is seen of it is a round trip time that stays long when nothing of ours waits. But it may also be that the
 * path has become longer. So there is a trial: ALONE rounds as on a longer path, then BESIDE rounds with more in
 * flight, as beside a queue. On a longer path more in flight brings no more; beside a queue it brings a greater
 * share.
 */

import { Least } from "./least.ts";

/** A queue may stand where the round trip time is this many times the least one of the last minutes. */
const LONG = 1.6;
/** That least one counts for one to two spans of this many ms: somebody may fill the path for minutes. */
const SPAN = 300_000;
/** So many PINGs have a mean that can be compared: a single one may be much faster than what jitters. */
const MEAN_OF = 3;
/** Rounds of the trial, as on a longer path and as beside a queue. */
const ALONE = 8;
const BESIDE = 16;
/** Beside a queue the rate of the second half of those rounds is this many times that of the second half alone. */
const GROWTH = 1.15;
/** Round trip times are the same within this factor. */
const SAME = 1.15;

export class CrossTraffic {
  /** Whether the window is to be that beside a queue: one is there, or the trial looks for it. */
  present = false;
  readonly #least = new Least(SPAN);
  /** The PINGs that are no mean yet: how many, and the sum of their round trip times, ms. */
  #pings = 0;
  #pingSum = 0;
  /** The round of the trial, from 1 on; 0: there is none. */
  #round = 0;
  /** Mean rates of the second half of its rounds alone, and beside a queue, bytes per ms. */
  #alone = 0;
  #beside = 0;
  /** The round trip time of which a trial has shown that it is the path's own, ms; 0 = none. */
  #own = 0;

  /** Record the mean round trip time of a round, ms. @param now ms. */
  round(rtt: number, now: number): void {
    this.#least.add(rtt, now);
  }

  /** Record the round trip time of a PING, ms. @param now ms. */
  ping(rtt: number, now: number): void {
    this.#pingSum += rtt;
    if (++this.#pings < MEAN_OF) return;
    this.#least.add(this.#pingSum / MEAN_OF, now);
    this.#pings = this.#pingSum = 0;
  }

  /**
   * The round trip time without a queue of ours is known.
   * @param rtt that is it, ms.
   * @param slack ms by which it may be longer for other reasons.
   */
  judge(rtt: number, slack: number): void {
    const own = rtt < SAME * this.#own && this.#own < SAME * rtt;
    if (own || rtt <= LONG * this.#least.value + slack) {
      this.present = false;
      this.#round = 0;
    } else if (!this.present && this.#round === 0) {
      this.#begin();
    }
  }

  /** Take the rate of a round, bytes per ms. @param rtt as of `judge`, ms. */
  take(rate: number, rtt: number): void {
    if (this.#round === 0) return;
    const round = this.#round++;
    if (round <= ALONE) {
      if (round > ALONE / 2) this.#alone += rate / (ALONE / 2);
      if (round < ALONE) return;
      // The window may have been too small for the path that is longer now: then it has to grow first.
      if (rate > GROWTH * this.#alone) this.#begin();
      else this.present = true;
      return;
    }
    if (round > ALONE + BESIDE / 2) this.#beside += rate / (BESIDE / 2);
    if (round < ALONE + BESIDE) return;
    this.#round = 0;
    if (this.#beside >= GROWTH * this.#alone) return;
    this.present = false;
    this.#own = rtt;
  }

  #begin(): void {
    this.#round = 1;
    this.#alone = this.#beside = 0;
  }
}
