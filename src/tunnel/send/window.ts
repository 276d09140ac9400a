/**
 * How many bytes may be on their way to the peer: its measured rate × the path's least round trip time, and a little more, so
 * that a faster path is noticed. It is BBR's idea (draft-ietf-ccwg-bbr) without pacing: what waits beyond that waits in our
 * queue, where it can be put in order, and not in pipes, sockets and routers, where it cannot. No clock, no I/O here.
 */

/** Bytes. What a path gets that nothing is known of, the least and the most. */
const INITIAL = 64 << 10;
export const WINDOW_MIN = 12_000;
export const WINDOW_MAX = 8 << 20;
/** What is granted beyond the path's own time: this many ms and this part of it. It is the queue that stands at the bottleneck. */
const SLACK = 3;
const SLACK_PART = 0.1;
/**
 * Answers come in clumps when a process on the way has to wait for its processor, or TCP below us for what was lost: what is under
 * way must last from one clump to the next, or each would lower the rate that the next window is made of. The largest clump
 * lately is granted too, up to so many ms of the rate, or one
 * round trip after a stall.
 */
const CLUMP_MAX = 8;
/** For how long the largest clump counts: so many ms, or round trips where that is longer; and once more as long at most. */
const CLUMP_AGE = 400;
const CLUMP_ROUNDS = 10;
const STALL = 0.75;
/** A pause shorter than so many ms is a process on the way that waits for its processor. */
const STALL_MIN = 40;
/** So many round trips after nothing was under way TCP below us starts slowly, with a pause in each: that is no stall. */
const FRESH_ROUNDS = 10;
/** The rate is the best of so many stretches of at least so many ms and one round trip. */
const STRETCHES = 10;
const STRETCH = 100;
/** A least round trip time that was not seen again for so long (ms) is measured anew: the path may have changed. */
const MIN_RTT_AGE = 10_000;
/** Messages under way that are remembered one by one, in the beginning and at most. */
const RECORDS = 32;
const RECORDS_MAX = 512;
/** Rounds without a quarter more rate that end the beginning. */
const FLAT_ROUNDS = 3;
const GROWTH = 1.25;

export type Phase = "startup" | "steady" | "probe";

/** Of what is under way: its end, when it was sent, and what was known then. A ring; most links need a small one. */
class Flight {
  readonly end: Float64Array;
  readonly time: Float64Array;
  /** Bytes answered, when the last answer came, and when what it answered was sent. */
  readonly wasAcked: Float64Array;
  readonly wasTime: Float64Array;
  readonly wasFirst: Float64Array;
  /** More waited for the window to open. */
  readonly limited: Float64Array;

  constructor(readonly size: number) {
    const field = (): Float64Array => new Float64Array(size);
    this.end = field();
    this.time = field();
    this.wasAcked = field();
    this.wasTime = field();
    this.wasFirst = field();
    this.limited = field();
  }

  /** A larger one with the same in it, the one at `oldest` first. */
  doubled(oldest: number): Flight {
    const next = new Flight(2 * this.size);
    for (const field of ["end", "time", "wasAcked", "wasTime", "wasFirst", "limited"] as const) {
      next[field].set(this[field].subarray(oldest));
      next[field].set(this[field].subarray(0, oldest), this.size - oldest);
    }
    return next;
  }
}

export class Window {
  phase: Phase = "startup";
  /** Bytes that may be unanswered. */
  size = INITIAL;
  /** Bytes per ms that the peer gets; 0 = unknown. */
  rate = 0;
  /** ms; infinite = unknown. */
  minRtt = Number.POSITIVE_INFINITY;
  /** Bytes sent and answered since the beginning. */
  #sent = 0;
  #acked = 0;
  #minRttTime = 0;
  /** When the last answer came, and when what it answered was sent. */
  #ackedTime = 0;
  #firstSent = 0;
  #flight = new Flight(RECORDS);
  #oldest = 0;
  #records = 0;
  readonly #stretches = new Float64Array(STRETCHES);
  #stretch = 0;
  #stretchStart = 0;
  #roundEnd = 0;
  #roundLimited = false;
  #flat = 0;
  #best = 0;
  /** Since when, and how many bytes were answered since then; the largest excess over the rate, now and in the second before. */
  #clumpStart = 0;
  #clumpBytes = 0;
  #clump = 0;
  #clumpBefore = 0;
  #clumpTime = 0;
  #stalled = false;
  #freshUntil = 0;
  #probeEnd = 0;
  #probeMin = Number.POSITIVE_INFINITY;

  get inFlight(): number {
    return this.#sent - this.#acked;
  }

  /** Bytes were given to the stream. @param more something waits for the window to open. */
  sent(bytes: number, more: boolean, now: number): void {
    if (this.inFlight === 0) {
      this.#freshUntil = now + (Number.isFinite(this.minRtt) ? FRESH_ROUNDS * this.minRtt : 0);
      this.#ackedTime = now;
      this.#firstSent = now;
    }
    this.#sent += bytes;
    const limited = more || this.inFlight >= this.size;
    if (this.#records === this.#flight.size && this.#records < RECORDS_MAX) {
      this.#flight = this.#flight.doubled(this.#oldest);
      this.#oldest = 0;
    }
    const { size, end, time, wasAcked, wasTime, wasFirst, limited: wasLimited } = this.#flight;
    if (this.#records === size) {
      end[(this.#oldest + size - 1) % size] = this.#sent;
      return;
    }
    const at = (this.#oldest + this.#records++) % size;
    end[at] = this.#sent;
    time[at] = now;
    wasAcked[at] = this.#acked;
    wasTime[at] = this.#ackedTime;
    wasFirst[at] = this.#firstSent;
    wasLimited[at] = limited ? 1 : 0;
  }

  /**
   * The peer has taken `total` bytes since the beginning, modulo 2^32, the last of them `delay` ms before it said so.
   * @returns false when that is more than was sent.
   */
  acked(total: number, delay: number, now: number): boolean {
    const more = (total - (this.#acked % 0x1_0000_0000)) >>> 0;
    if (more > this.inFlight) return false;
    if (more === 0) return true;
    this.#acked += more;
    this.#clumped(more, now);
    const flight = this.#flight;
    let at = -1;
    while (this.#records > 0 && (flight.end[this.#oldest] ?? 0) <= this.#acked) {
      at = this.#oldest;
      this.#oldest = (this.#oldest + 1) % flight.size;
      this.#records--;
    }
    if (at < 0) return true;
    const sentAt = flight.time[at] ?? now;
    const rtt = Math.max(0.01, now - sentAt - delay);
    const since = Math.max(now - (flight.wasTime[at] ?? now), sentAt - (flight.wasFirst[at] ?? sentAt));
    this.#ackedTime = now;
    this.#firstSent = sentAt;
    this.measured(rtt, now);
    const limited = flight.limited[at] === 1;
    // A stretch shorter than the path is a clump of answers, not a rate.
    if (since >= this.minRtt) this.#sample((this.#acked - (flight.wasAcked[at] ?? 0)) / since, limited, now);
    this.#roundLimited ||= limited;
    if ((flight.wasAcked[at] ?? 0) >= this.#roundEnd) this.#round();
    if (this.phase === "startup" && limited) {
      this.size = Math.min(WINDOW_MAX, this.size + more);
      // A queue has built up: there is no more to find.
      if (this.rate > 0 && rtt > 1.25 * this.minRtt + 4 * SLACK) this.phase = "steady";
    }
    this.#resize(more);
    return true;
  }

  /** A round trip time, ms. */
  measured(rtt: number, now: number): void {
    if (this.phase === "probe") this.#probeMin = Math.min(this.#probeMin, rtt);
    const idle = this.phase !== "probe" && this.inFlight * 2 <= this.rate * this.minRtt;
    if (rtt <= this.minRtt * 1.02 || (idle && now - this.#minRttTime > MIN_RTT_AGE)) {
      if (rtt < this.minRtt || rtt > this.minRtt * 1.02) this.minRtt = rtt;
      this.#minRttTime = now;
    }
  }

  /** What time brings: the path is emptied now and then to measure it. Call it at least every second. */
  tick(now: number): void {
    if (this.phase === "steady" && now - this.#minRttTime > MIN_RTT_AGE && this.inFlight > 0) {
      this.phase = "probe";
      this.#probeMin = Number.POSITIVE_INFINITY;
      this.#probeEnd = now + Math.min(3000, 2 * this.minRtt + 20);
      this.#resize(0);
    } else if (this.phase === "probe" && now >= this.#probeEnd && Number.isFinite(this.#probeMin)) {
      this.phase = "steady";
      this.minRtt = this.#probeMin;
      this.#minRttTime = now;
      this.#resize(0);
    }
  }

  /** How far answers run ahead of the rate. */
  #clumped(more: number, now: number): void {
    // In the beginning the rate is only being found, and what runs ahead of it is no clump.
    if (this.phase === "startup" || this.#clumpBytes <= this.rate * (now - this.#clumpStart)) {
      this.#clumpStart = now;
      this.#clumpBytes = 0;
      this.#stalled = false;
    }
    // Nothing for most of a round trip: TCP below us waited for what was lost. A process that waits is back sooner.
    this.#stalled ||=
      now >= this.#freshUntil && now - this.#ackedTime > Math.max(STALL_MIN, STALL * this.minRtt);
    if (this.phase === "startup") return;
    this.#clumpBytes += more;
    if (now - this.#clumpTime > Math.max(CLUMP_AGE, CLUMP_ROUNDS * this.minRtt)) {
      this.#clumpTime = now;
      this.#clumpBefore = this.#clump;
      this.#clump = 0;
    }
    const excess = this.#clumpBytes - this.rate * (now - this.#clumpStart);
    const most = this.rate * (this.#stalled ? Math.max(CLUMP_MAX, this.minRtt) : CLUMP_MAX);
    this.#clump = Math.max(this.#clump, Math.min(excess, most));
  }

  #sample(rate: number, limited: boolean, now: number): void {
    if (!limited && rate <= this.rate) return;
    if (limited && now - this.#stretchStart >= Math.max(STRETCH, this.minRtt)) {
      this.#stretch = (this.#stretch + 1) % STRETCHES;
      this.#stretches[this.#stretch] = 0;
      this.#stretchStart = now;
    }
    this.#stretches[this.#stretch] = Math.max(this.#stretches[this.#stretch] ?? 0, rate);
    let best = 0;
    for (let i = 0; i < STRETCHES; i++) best = Math.max(best, this.#stretches[i] ?? 0);
    this.rate = best;
  }

  /** What was under way when the last round began is answered. */
  #round(): void {
    this.#roundEnd = this.#sent;
    if (this.phase === "startup" && this.#roundLimited) {
      if (this.rate >= this.#best * GROWTH) {
        this.#best = this.rate;
        this.#flat = 0;
      } else if (++this.#flat >= FLAT_ROUNDS) {
        this.phase = "steady";
      }
    }
    this.#roundLimited = false;
  }

  /** @param acked bytes just answered: the window opens by half of that at most, as a burst would be a queue of its own. */
  #resize(acked: number): void {
    if (this.phase === "startup") return;
    const clump = Math.max(this.#clump, this.#clumpBefore);
    const size =
      this.phase === "probe"
        ? (this.rate * this.minRtt) / 2
        : this.rate * (this.minRtt * (1 + SLACK_PART) + SLACK) + clump;
    this.size = Math.min(WINDOW_MAX, Math.max(WINDOW_MIN, Math.min(size, this.size + acked / 2)));
  }
}
