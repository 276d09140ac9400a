/**
 * Spreads what the window lets go over the round trip, as a bucket of bytes that fills up with time.
 *
 * Otherwise an acknowledgement of many bytes would be answered by as many, and the bytes in flight would stay
 * one burst. Such a burst is a queue of its own. It also shares packets of SSH, and nothing of a packet arrives
 * before its last byte: at 20 Mbit/s a packet of 32 KB takes 13 ms.
 */

/** The bucket holds what may be sent in this many ms … */
const BURST = 3;
/** … or two full frames, bytes. */
const BURST_MIN = 3028;

export class Pace {
  /** Bytes that may be sent now; below zero if more was sent. */
  credit = BURST_MIN;
  /** Bytes per ms; infinite = there is no limit. */
  rate = Number.POSITIVE_INFINITY;
  /** When the bucket was filled last, ms. */
  #filled = 0;

  /** ms until about one frame may be sent. */
  get wait(): number {
    return Math.max(1, (BURST_MIN / 2 - this.credit) / this.rate);
  }

  /** Fill the bucket. @param now ms. */
  fill(now: number): void {
    const most = Math.max(BURST_MIN, BURST * this.rate);
    const more = now > this.#filled ? (now - this.#filled) * this.rate : 0;
    this.credit = Math.min(most, this.credit + more);
    this.#filled = now;
  }
}
