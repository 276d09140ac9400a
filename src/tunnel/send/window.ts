/**
 * The window of one link: how many bytes may be in flight to the peer, that is sent and not yet acknowledged.
 *
 * TCP below the tunnel has a congestion window of its own. It lets a queue grow in sockets, in pipes and in
 * routers, where a small frame can no longer overtake a large one. This window keeps in flight only what the
 * path needs. All other frames wait in the fair queue (fair-queue.ts), where their order can still be
 * changed.
 *
 * The algorithm follows BBR (draft-ietf-ccwg-bbr), without pacing. It models the path by two numbers:
 *
 * - `rate`: the delivery rate, a maximum over recent intervals. A sample is the number of bytes that were
 *   acknowledged between the sending of some bytes and their acknowledgement, divided by that time
 *   (draft-cheng-iccrg-delivery-rate-estimation).
 * - `minRtt`: the least round trip time that was seen lately, that is the round trip time with empty queues.
 *
 * Their product is what the path itself holds. The window is that product, plus a small standing queue at the
 * bottleneck by which a higher rate becomes visible, plus an allowance for acknowledgements that arrive in
 * bursts:
 *
 *     window = rate × (1.1 × minRtt + 3 ms) + extraAcked
 *
 * There are three phases:
 *
 * - `startup`: the window doubles every round trip, as in TCP's slow start, until the rate stops growing or
 *   the round trip time shows that a queue has built up.
 * - `steady`: the formula above.
 * - `probe`: when `minRtt` was not seen again for 10 s, the window is half of what the path holds, for about
 *   two round trips. The queues then empty, and `minRtt` is measured anew.
 *
 * There is no clock and no I/O here: the caller passes the time, in ms.
 */

/** Bytes that may be in flight on a path of which nothing is known yet. */
const INITIAL = 64 << 10;
/** The smallest window, bytes. */
export const WINDOW_MIN = 12_000;
/** The largest window, bytes. */
export const WINDOW_MAX = 8 << 20;

/** The standing queue at the bottleneck is this many ms of the rate … */
const SLACK = 3;
/** … and this share of the least round trip time. */
const SLACK_PART = 0.1;

/**
 * Acknowledgements arrive in bursts where a process on the way waits for its processor, or where TCP below us
 * waits for a retransmission. The bytes in flight must last from one burst to the next. Otherwise each pause
 * would lower the measured rate, and with it the next window. So the largest recent burst (`extraAcked`,
 * BBR's extra_acked) is added to the window. It counts up to this many ms of the rate; after a stall, up to
 * one round trip of the rate.
 */
const EXTRA_MAX = 8;
/** The largest burst counts for one to two spans of this many ms, or EXTRA_ROUNDS round trips if longer. */
const EXTRA_SPAN = 400;
const EXTRA_ROUNDS = 10;
/**
 * A stall: no acknowledgement for this share of the least round trip time, because TCP below us retransmits.
 */
const STALL = 0.75;
/** A shorter pause than this, ms, is no stall: a process on the way waits for its processor. */
const STALL_MIN = 40;
/**
 * For this many round trips after nothing was in flight, a pause is no stall either: TCP below us begins with
 * slow start again, and pauses once in every round trip.
 */
const RESTART_ROUNDS = 10;

/** The rate is the best of this many intervals. */
const RATE_INTERVALS = 10;
/** Length of such an interval, ms, or one round trip if that is longer. */
const RATE_INTERVAL = 100;
/** `minRtt` is measured anew if it was not seen again for this long, ms: the path may have become longer. */
const MIN_RTT_AGE = 10_000;

/** Records of what is in flight: room in the beginning. Most links need no more. */
const RECORDS = 32;
/** Records at most. Beyond them what is sent is added to the newest record. */
const RECORDS_MAX = 512;

/** Startup ends after this many rounds in a row in which the rate did not grow by the factor GROWTH. */
const FLAT_ROUNDS = 3;
const GROWTH = 1.25;

export type Phase = "startup" | "steady" | "probe";

/** A ring of records of what is in flight. Each record says what was known when its bytes were sent. */
class Flight {
  /** Bytes sent since the beginning, those of this record included. */
  readonly end: Float64Array;
  /** When it was sent, ms. */
  readonly time: Float64Array;
  /** Bytes that had been acknowledged by then. */
  readonly ackedBefore: Float64Array;
  /** When the last acknowledgement before it had come, ms. */
  readonly ackedTimeBefore: Float64Array;
  /** When the bytes that were acknowledged last had been sent, ms. */
  readonly ackedSentBefore: Float64Array;
  /** 1: the window was the limit, as more frames waited for it. 0: there was too little to send. */
  readonly limited: Float64Array;

  /** @param size the number of records. */
  constructor(readonly size: number) {
    const field = (): Float64Array => new Float64Array(size);
    this.end = field();
    this.time = field();
    this.ackedBefore = field();
    this.ackedTimeBefore = field();
    this.ackedSentBefore = field();
    this.limited = field();
  }

  /** A ring of twice the size with the same records. The one at `oldest` comes first. */
  doubled(oldest: number): Flight {
    const next = new Flight(2 * this.size);
    const fields = ["end", "time", "ackedBefore", "ackedTimeBefore", "ackedSentBefore", "limited"] as const;
    for (const field of fields) {
      next[field].set(this[field].subarray(oldest));
      next[field].set(this[field].subarray(0, oldest), this.size - oldest);
    }
    return next;
  }
}

export class Window {
  phase: Phase = "startup";
  /** Bytes that may be in flight. */
  size = INITIAL;
  /** Delivery rate, bytes per ms; 0 = unknown. */
  rate = 0;
  /** Least round trip time, ms; infinite = unknown. */
  minRtt = Number.POSITIVE_INFINITY;
  /** When `minRtt` was seen last, ms. */
  #minRttTime = 0;
  /** Bytes sent since the beginning. */
  #sent = 0;
  /** Bytes acknowledged since the beginning. */
  #acked = 0;
  /** When the last acknowledgement came, ms. */
  #ackedTime = 0;
  /** When the bytes that it acknowledged had been sent, ms. */
  #ackedSent = 0;
  #flight = new Flight(RECORDS);
  /** Index of the oldest record in `#flight`. */
  #oldest = 0;
  #recordCount = 0;
  /** The best rate of each interval, a ring. */
  readonly #intervalRates = new Float64Array(RATE_INTERVALS);
  /** Index of the current interval. */
  #interval = 0;
  #intervalStart = 0;
  /** A round ends when bytes are acknowledged that were sent after this many had been acknowledged. */
  #roundEnd = 0;
  /** In this round the window was the limit at least once. */
  #roundLimited = false;
  /** Startup: rounds in a row without growth. */
  #flatRounds = 0;
  /** Startup: the rate at the last growth. */
  #grownRate = 0;
  /** When acknowledgements last were not ahead of the rate: the burst began then, ms. */
  #burstStart = 0;
  /** Bytes acknowledged since then. */
  #burstBytes = 0;
  /** Acknowledgements stalled during this burst. */
  #stalled = false;
  /** Until when, ms, a pause is no stall, as TCP below us starts slowly. */
  #restartedUntil = 0;
  /** By how many bytes a burst was ahead of the rate at most: in this span. */
  #extraAcked = 0;
  /** The same in the span before. */
  #extraAckedBefore = 0;
  /** When this span began, ms. */
  #extraSpanStart = 0;
  /** When the probe may end, ms. */
  #probeEnd = 0;
  /** Least round trip time in this probe, ms. */
  #probeMin = Number.POSITIVE_INFINITY;

  /** Bytes that were sent and are not acknowledged. */
  get inFlight(): number {
    return this.#sent - this.#acked;
  }

  /**
   * Record that the stream was given some bytes.
   * @param more frames are left that wait for the window to open.
   * @param now ms.
   */
  sent(bytes: number, more: boolean, now: number): void {
    if (this.inFlight === 0) {
      this.#restartedUntil = now + (Number.isFinite(this.minRtt) ? RESTART_ROUNDS * this.minRtt : 0);
      this.#ackedTime = now;
      this.#ackedSent = now;
    }
    this.#sent += bytes;
    const limited = more || this.inFlight >= this.size;
    if (this.#recordCount === this.#flight.size && this.#recordCount < RECORDS_MAX) {
      this.#flight = this.#flight.doubled(this.#oldest);
      this.#oldest = 0;
    }
    const flight = this.#flight;
    const { size } = flight;
    if (this.#recordCount === size) {
      flight.end[(this.#oldest + size - 1) % size] = this.#sent;
      return;
    }
    const at = (this.#oldest + this.#recordCount++) % size;
    flight.end[at] = this.#sent;
    flight.time[at] = now;
    flight.ackedBefore[at] = this.#acked;
    flight.ackedTimeBefore[at] = this.#ackedTime;
    flight.ackedSentBefore[at] = this.#ackedSent;
    flight.limited[at] = limited ? 1 : 0;
  }

  /**
   * Take an acknowledgement, and set the window.
   * @param total bytes that the peer has received since the beginning, modulo 2^32.
   * @param delay ms from the arrival of the last of them until the peer acknowledged it.
   * @param now ms.
   * @returns false if that is more than was sent.
   */
  acked(total: number, delay: number, now: number): boolean {
    const newly = (total - (this.#acked % 0x1_0000_0000)) >>> 0;
    if (newly > this.inFlight) return false;
    if (newly === 0) return true;
    this.#acked += newly;
    this.#measureBurst(newly, now);
    const flight = this.#flight;
    let at = -1;
    while (this.#recordCount > 0 && (flight.end[this.#oldest] ?? 0) <= this.#acked) {
      at = this.#oldest;
      this.#oldest = (this.#oldest + 1) % flight.size;
      this.#recordCount--;
    }
    if (at < 0) return true;
    const sentAt = flight.time[at] ?? now;
    const rtt = Math.max(0.01, now - sentAt - delay);
    // The longer of both times: a burst of acknowledgements or of frames must not look like a high rate.
    const elapsed = Math.max(
      now - (flight.ackedTimeBefore[at] ?? now),
      sentAt - (flight.ackedSentBefore[at] ?? sentAt),
    );
    this.#ackedTime = now;
    this.#ackedSent = sentAt;
    this.measured(rtt, now);
    const limited = flight.limited[at] === 1;
    // Over less than a round trip this would be the rate of a burst of acknowledgements, not of the path.
    if (elapsed >= this.minRtt) {
      this.#sampleRate((this.#acked - (flight.ackedBefore[at] ?? 0)) / elapsed, limited, now);
    }
    this.#roundLimited ||= limited;
    if ((flight.ackedBefore[at] ?? 0) >= this.#roundEnd) this.#endRound();
    if (this.phase === "startup" && limited) {
      this.size = Math.min(WINDOW_MAX, this.size + newly);
      // A queue has built up at the bottleneck: a larger window would not raise the rate.
      if (this.rate > 0 && rtt > 1.25 * this.minRtt + 4 * SLACK) this.phase = "steady";
    }
    this.#resize(newly);
    return true;
  }

  /** Take a measured round trip time, ms, of an acknowledgement or of a PING. @param now ms. */
  measured(rtt: number, now: number): void {
    if (this.phase === "probe") this.#probeMin = Math.min(this.#probeMin, rtt);
    // With little in flight there is no queue of ours, so that an aged minimum can be replaced without a
    // probe.
    const idle = this.phase !== "probe" && this.inFlight * 2 <= this.rate * this.minRtt;
    if (rtt <= this.minRtt * 1.02 || (idle && now - this.#minRttTime > MIN_RTT_AGE)) {
      if (rtt < this.minRtt || rtt > this.minRtt * 1.02) this.minRtt = rtt;
      this.#minRttTime = now;
    }
  }

  /** Begin or end a probe if it is time. Call it at least every second. @param now ms. */
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

  /** Measure how far acknowledgements are ahead of the rate. @param newly bytes just acknowledged. */
  #measureBurst(newly: number, now: number): void {
    // In startup the rate is still being found, so that to be ahead of it does not mean a burst.
    if (this.phase === "startup" || this.#burstBytes <= this.rate * (now - this.#burstStart)) {
      this.#burstStart = now;
      this.#burstBytes = 0;
      this.#stalled = false;
    }
    this.#stalled ||=
      now >= this.#restartedUntil && now - this.#ackedTime > Math.max(STALL_MIN, STALL * this.minRtt);
    if (this.phase === "startup") return;
    this.#burstBytes += newly;
    if (now - this.#extraSpanStart > Math.max(EXTRA_SPAN, EXTRA_ROUNDS * this.minRtt)) {
      this.#extraSpanStart = now;
      this.#extraAckedBefore = this.#extraAcked;
      this.#extraAcked = 0;
    }
    const ahead = this.#burstBytes - this.rate * (now - this.#burstStart);
    const most = this.rate * (this.#stalled ? Math.max(EXTRA_MAX, this.minRtt) : EXTRA_MAX);
    this.#extraAcked = Math.max(this.#extraAcked, Math.min(ahead, most));
  }

  /**
   * Take a sample of the delivery rate, bytes per ms.
   * @param limited the window was the limit. Otherwise there was too little to send, and the sample can only
   *   raise the rate.
   */
  #sampleRate(sample: number, limited: boolean, now: number): void {
    if (!limited && sample <= this.rate) return;
    if (limited && now - this.#intervalStart >= Math.max(RATE_INTERVAL, this.minRtt)) {
      this.#interval = (this.#interval + 1) % RATE_INTERVALS;
      this.#intervalRates[this.#interval] = 0;
      this.#intervalStart = now;
    }
    this.#intervalRates[this.#interval] = Math.max(this.#intervalRates[this.#interval] ?? 0, sample);
    let best = 0;
    for (let i = 0; i < RATE_INTERVALS; i++) best = Math.max(best, this.#intervalRates[i] ?? 0);
    this.rate = best;
  }

  /** End a round: one round trip has passed since it began. */
  #endRound(): void {
    this.#roundEnd = this.#sent;
    if (this.phase === "startup" && this.#roundLimited) {
      if (this.rate >= this.#grownRate * GROWTH) {
        this.#grownRate = this.rate;
        this.#flatRounds = 0;
      } else if (++this.#flatRounds >= FLAT_ROUNDS) {
        this.phase = "steady";
      }
    }
    this.#roundLimited = false;
  }

  /**
   * Set the window from rate, least round trip time and extra acknowledgements.
   * @param newly bytes just acknowledged. The window opens by at most half of them: frames sent in one burst
   *   would be a queue of their own.
   */
  #resize(newly: number): void {
    if (this.phase === "startup") return;
    const extra = Math.max(this.#extraAcked, this.#extraAckedBefore);
    const size =
      this.phase === "probe"
        ? (this.rate * this.minRtt) / 2
        : this.rate * (this.minRtt * (1 + SLACK_PART) + SLACK) + extra;
    this.size = Math.min(WINDOW_MAX, Math.max(WINDOW_MIN, Math.min(size, this.size + newly / 2)));
  }
}
