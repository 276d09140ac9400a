/**
 * The PINGs of one link, and what their answers tell of the path: its round trip time, and how often it loses
 * something.
 *
 * TCP below the tunnel sends again what the network loses, so that no PING is lost. But everything behind a
 * lost packet waits for its retransmission. So a PING that had to wait (a late one) stands for a loss. There
 * is no I/O here; the caller passes the time, in ms.
 */

/** PINGs in flight that are remembered. If one more is sent, the oldest counts as not answered. */
const IN_FLIGHT = 8;
/**
 * A PING is late if its round trip takes longer than LATE_FACTOR × the least round trip time, and longer than
 * the least round trip time + LATE_MARGIN, ms.
 *
 * Both follow from how TCP sends a lost packet again. If nothing was sent behind it, as behind a PING on an
 * idle path, TCP does that after 200 ms at the earliest (TCP_RTO_MIN of Linux, for which its tail loss probe
 * waits, too). If more was sent behind it, TCP does that after one round trip. Shorter delays come from
 * processors that are busy.
 */
const LATE_FACTOR = 2;
const LATE_MARGIN = 150;
/**
 * PINGs in a span. `loss` and the least round trip time are taken over this span and the one before: 64 to
 * 128 PINGs, that is 2 to 4 minutes.
 */
const SPAN = 64;

export class Pings {
  /** PINGs that were answered or given up since the beginning. */
  count = 0;
  /** How many of them were late or not answered. */
  late = 0;
  /** When each PING in flight was sent, ms; 0 = it was answered. */
  readonly #sent = new Float64Array(IN_FLIGHT);
  /** The stamp of each PING in flight. */
  readonly #stamp = new Float64Array(IN_FLIGHT);
  /** 1: it is still to be counted, as late or in time. */
  readonly #open = new Uint8Array(IN_FLIGHT);
  /** Index for the next PING in these arrays. */
  #next = 0;
  /** Least round trip time in this span, ms. */
  #least = Number.POSITIVE_INFINITY;
  /** Least round trip time in the span before, ms. */
  #leastBefore = Number.POSITIVE_INFINITY;
  /** PINGs counted in this span. */
  #spanCount = 0;
  /** Late ones in this span. */
  #spanLate = 0;
  /** PINGs counted in the span before. */
  #countBefore = 0;
  /** Late ones in the span before. */
  #lateBefore = 0;

  /** Share of late PINGs in this span and the one before, 0 to 1. */
  get loss(): number {
    const count = this.#spanCount + this.#countBefore;
    return count === 0 ? 0 : (this.#spanLate + this.#lateBefore) / count;
  }

  /**
   * Note that a PING is sent.
   * @param now ms.
   * @returns its stamp for the payload: the time in µs, a whole number.
   */
  send(now: number): number {
    const { limit } = this;
    for (let at = 0; at < IN_FLIGHT; at++) {
      if (this.#open[at] === 1 && now - (this.#sent[at] ?? 0) > limit) this.#judge(at, true);
    }
    const at = this.#next;
    this.#next = (at + 1) % IN_FLIGHT;
    if (this.#open[at] === 1) this.#judge(at, true);
    const stamp = Math.floor(now * 1000);
    this.#sent[at] = now;
    this.#stamp[at] = stamp;
    this.#open[at] = 1;
    return stamp;
  }

  /**
   * Note that an answer came.
   * @returns the round trip time, ms; undefined if no PING with this stamp is in flight.
   */
  answered(stamp: number, now: number): number | undefined {
    const at = this.#stamp.indexOf(stamp);
    const sent = this.#sent[at];
    if (sent === undefined || sent === 0) return undefined;
    const rtt = now - sent;
    const late = rtt > this.limit;
    this.#least = Math.min(this.#least, rtt);
    if (this.#open[at] === 1) this.#judge(at, late);
    this.#sent[at] = 0;
    this.#stamp[at] = 0;
    return rtt;
  }

  /** How long an answer may take, ms; after that the PING is late. Infinite before the first answer. */
  get limit(): number {
    const least = Math.min(this.#least, this.#leastBefore);
    return Math.max(LATE_FACTOR * least, least + LATE_MARGIN);
  }

  /** Count the PING at this index. */
  #judge(at: number, late: boolean): void {
    this.#open[at] = 0;
    this.count++;
    this.#spanCount++;
    if (late) {
      this.late++;
      this.#spanLate++;
    }
    if (this.#spanCount < SPAN) return;
    this.#countBefore = this.#spanCount;
    this.#lateBefore = this.#spanLate;
    this.#leastBefore = this.#least;
    this.#spanCount = this.#spanLate = 0;
    this.#least = Number.POSITIVE_INFINITY;
  }
}
