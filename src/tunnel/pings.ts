/**
 * PINGs under way, and what their answers tell of the path: its round trip time, and how often it made one wait. Below the tunnel is
 * TCP, which repeats what a network lost; no frame gets lost, but whatever is behind it waits. So a PING that had to wait stands for
 * a loss. No I/O here, time is given.
 */

/** PINGs under way that are remembered; one that is pushed out was not answered. */
const UNDER_WAY = 8;
/**
 * A PING is late after so many of the path's least round trips, or after one and so many ms where that is more. What is lost with
 * nothing behind it, as a PING on an idle path, TCP repeats after 200 ms at the earliest (Linux' TCP_RTO_MIN, which its tail loss
 * probe waits for too); what has more behind it after one round trip. Less would be a processor that is busy.
 */
const LATE = 2;
const GRACE = 150;
/** The share of late ones, and the least round trip, are those of the last one to two times so many PINGs: 2 to 4 minutes. */
const SPAN = 64;

export class Pings {
  /** PINGs that were answered or given up, and those of them that were late or not answered. */
  count = 0;
  late = 0;
  /** Sent when, ms (0: answered), and with which stamp; whether it is still to be judged. */
  readonly #sent = new Float64Array(UNDER_WAY);
  readonly #stamp = new Float64Array(UNDER_WAY);
  readonly #open = new Uint8Array(UNDER_WAY);
  #next = 0;
  /** Of this span and the one before. */
  #least = Number.POSITIVE_INFINITY;
  #leastBefore = Number.POSITIVE_INFINITY;
  #spanCount = 0;
  #spanLate = 0;
  #countBefore = 0;
  #lateBefore = 0;

  /** The share of late ones lately, 0 to 1. */
  get loss(): number {
    const count = this.#spanCount + this.#countBefore;
    return count === 0 ? 0 : (this.#spanLate + this.#lateBefore) / count;
  }

  /**
   * One is sent now.
   * @param judged it counts for the share of late ones.
   * @returns its stamp, µs, a whole number.
   */
  send(now: number, judged: boolean): number {
    const { limit } = this;
    for (let at = 0; at < UNDER_WAY; at++) {
      if (this.#open[at] === 1 && now - (this.#sent[at] ?? 0) > limit) this.#judge(at, true);
    }
    const at = this.#next;
    this.#next = (at + 1) % UNDER_WAY;
    if (this.#open[at] === 1) this.#judge(at, true);
    const stamp = Math.floor(now * 1000);
    this.#sent[at] = now;
    this.#stamp[at] = stamp;
    this.#open[at] = judged ? 1 : 0;
    return stamp;
  }

  /** The answer to one came: its round trip time, ms; undefined when none with this stamp is under way. */
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

  /** After how many ms a PING is late; infinite while nothing is known of the path. */
  get limit(): number {
    const least = Math.min(this.#least, this.#leastBefore);
    return Math.max(LATE * least, least + GRACE);
  }

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
