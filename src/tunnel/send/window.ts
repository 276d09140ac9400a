/**
 * The window of one link: how many bytes may be in flight to the peer, that is sent and not yet acknowledged.
 *
 * TCP below the tunnel has a congestion window of its own. It lets a queue grow in sockets, in pipes and in
 * routers, where a small frame can no longer overtake a large one. This window keeps in flight only what the
 * path needs. All other frames wait in the fair queue (fair-queue.ts), where their order can still be
 * changed.
 *
 * What a path needs follows from Little's law: bytes in flight = rate × mean round trip time. So the window is
 * set by the mean round trip time of each round, in which the bytes in flight are acknowledged once:
 *
 *     window = bytes in flight × target / mean round trip time
 *
 * (as in FAST TCP, Wei et al. 2006). A mean below `target` lets the window grow by their ratio in every round
 * trip; one above it lets it shrink as fast. `target` is the round trip time that a small standing queue gives:
 *
 *     target = 1.1 × base + 3 ms + 1.25 × spread
 *
 * - `base` is the mean round trip time while no queue of ours stands. A mean, since on a path that jitters
 *   hardly any byte is as fast as the fastest one: a window made for the fastest would be too small, the
 *   measured rate would fall, and the next window would be smaller still.
 * - `spread` is the standard deviation of the round trip time in a round. The more it jitters, the more must
 *   be in flight for the path to be busy all the time.
 *
 * Whether a queue is ours only an experiment tells: a **dip**. For two round trips the window is a little less
 * than the path holds. If the round trip time falls to where it was, the queue was ours. If it does not, the
 * dip becomes a deep one, of half of what the path holds, and the round trip time that remains is the new
 * `base`: the path jitters more, is longer, or a queue of somebody else stands on it. A dip is due from time
 * to time, and when the window goes on falling.
 *
 * Beside a queue of somebody else (cross-traffic.ts) the target is 2 × base. Otherwise his flow would take what this
 * one gives up. TCP below the tunnel then gets the share that any TCP gets.
 *
 * There are three phases: `startup`, in which the window doubles every round trip as in TCP's slow start;
 * `steady`; and `dip`. pace.ts spreads over the round trip what the window lets go. There is no clock and no I/O
 * here: the caller passes the time, in ms.
 */

import { CrossTraffic } from "./cross-traffic.ts";
import { Flight } from "./flight.ts";
import { Least } from "./least.ts";
import { Pace } from "./pace.ts";
import { Round } from "./round.ts";

/**
 * Bytes that may be in flight on a path of which nothing is known yet: what TCP below us sends at first (RFC
 * 6928). What is more would wait in its socket for another round trip, and look like a queue.
 */
const INITIAL = 14 << 10;
/** The smallest window, bytes: four full frames. */
export const WINDOW_MIN = 6000;
/** The largest window, bytes. */
export const WINDOW_MAX = 8 << 20;

/** The standing queue may take this share of `base` … */
const SLACK_PART = 0.1;
/** … and this many ms … */
const SLACK = 3;
/** … and this share of `spread`. */
const SLACK_SPREAD = 1.25;
/** The share of `base` beside a queue of somebody else. */
const SHARED_PART = 1;
/** A round is one round trip, or this many ms if that is longer: a shorter one tells of processors only. */
const ROUND = 20;
/** The window is what the best of this many rounds needs: single bad ones may be retransmissions. */
const BEST_OF = 2;
/** Growth of the window in one round at most. */
const GROWTH = 2;
/** From the fourth round without any queue on, each grows by this factor more: the path has become faster. */
const HASTE = 1.25;
const HASTE_AFTER = 3;

/** A dip is this share of what the path holds, and a deep dip that one. */
const DIP = 0.9;
const DEEP_DIP = 0.5;
/** A dip is due after this many rounds and this many ms in which no round trip was as short as `base`. */
const DIP_ROUNDS = 20;
const DIP_TIME = 500;
/** A dip is due when the window was below this share of what it was before for CUT_ROUNDS. */
const CUT = 0.7;
const CUT_ROUNDS = 3;
/** After a dip the round trip time is the same as before if it is within this factor, SLACK and `spread`. */
const SAME = 1.15;

/**
 * A stall: no acknowledgement for this share of `base`, because TCP below us retransmits, or the path has no
 * rate at all. A round with a stall does not set the window, but at most STALLS of them in a row.
 */
const STALL = 0.75;
/** A shorter pause than this, ms, is no stall: a process on the way waits for its processor. */
const STALL_MIN = 20;
const STALLS = 2;
/** An acknowledgement is overdue after this many round trips and STALL_MIN; after SILENT ms more nobody may be there. */
const OVERDUE = 1.5;
const SILENT = 1000;
/** `spread` is a moving average: what a round contributes to it, and a round with a stall or a dip. */
const SPREAD_PART = 1 / 16;
const SPREAD_RARE_PART = 1 / 4;

/**
 * What is acknowledged at once is sent bit by bit again, so that on average less is in flight than the window allows: by
 * this share of it, and at most this share of the window.
 */
const CLUMP = 0.5;
const CLUMP_MOST = 1 / 8;

/** In startup the window is at most this many times what the path is known to hold, and so can double. */
const STARTUP = 3;
/** Startup goes on while the rate grows by this factor in a round. */
const STARTUP_GROWTH = 1.25;
/** It ends in any case when the round trip time is this many times `base` in two rounds. */
const STARTUP_QUEUE = 1.5;
/** When the window was not full for this long, ms, TCP below us starts slowly again, and so does the window. */
const RESTART = 1000;

/** So many times the rate that fills the window once in a round trip may be sent (pace.ts). */
const PACE = 2;

export type Phase = "startup" | "steady" | "dip";

export class Window {
  phase: Phase = "startup";
  /** Bytes that may be in flight. */
  size = INITIAL;
  /** Rate of the path in the last round in which it was full, bytes per ms; 0 = unknown. */
  rate = 0;
  /** Least round trip time of the last 15 to 30 s, ms; infinite = unknown. */
  get minRtt(): number {
    return this.#minRtt.value;
  }
  /** Mean round trip time while no queue of ours stands, ms; infinite = unknown. */
  get emptyRtt(): number {
    return this.#base;
  }
  readonly #minRtt = new Least(15_000);
  readonly #flight = new Flight();
  /** Mean round trip time while no queue of ours stands, ms; infinite = unknown. */
  #base = Number.POSITIVE_INFINITY;
  /** Mean round trip time of the round before, ms. */
  #rttBefore = 0;
  /** Standard deviation of the round trip time within a round, ms. */
  #spread = 0;
  readonly #crossTraffic = new CrossTraffic();

  /** The bytes that were acknowledged in this round, as far as much was in flight when they were sent. */
  readonly #round = new Round();
  /** It ends when bytes are acknowledged that were sent after this many. */
  #roundEnd = 0;
  /** When it began, ms. */
  #roundStart = 0;
  /** Rounds in a row that did not count, as they stalled. */
  #stalls = 0;
  /** When the last acknowledgement came, or bytes were sent while nothing was in flight, ms. */
  #ackedTime = 0;
  /** When the window was full last, ms. */
  #fullTime = 0;

  /** What the path needed in each of the last rounds to be full, bytes, a ring; 0 = unknown. */
  readonly #needs = new Float64Array(BEST_OF);
  /** Index of the last of them. */
  #needAt = 0;
  /** What was needed before the window began to fall, bytes. */
  #neededBefore = 0;
  /** Rounds in a row in which the window was below CUT of that. */
  #cutRounds = 0;
  /** The rate of the round before, bytes per ms. */
  #rateBefore = 0;
  /** Rounds in a row without a queue; below zero: the last dip still shows. */
  #emptyRounds = 0;
  /** Startup: rounds in a row with a long queue. */
  #queuedRounds = 0;

  /** Rounds since the last dip, or since `base` was last seen. */
  #rounds = 0;
  /** When that was, ms. */
  #seenTime = 0;
  /** Rounds of this dip. */
  #dipRounds = 0;
  #deep = false;
  /** This dip is there because the window fell. */
  #fell = false;

  readonly #pace = new Pace();

  /**
   * @param least the window is never smaller, bytes: WINDOW_MIN, or more where what is in flight keeps nobody
   *   waiting.
   */
  constructor(readonly least = WINDOW_MIN) {}

  /** Whether an acknowledgement is overdue: TCP below us retransmits, or the path has no rate. @param now ms. */
  stalls(now: number): boolean {
    return this.inFlight > 0 && this.#isStall(now);
  }

  /** Whether what is in flight is not acknowledged within a round trip and a half. @param now ms. */
  overdue(now: number): boolean {
    return this.#unheard(now) > OVERDUE * this.#knownRtt + STALL_MIN;
  }

  /** Whether nothing in flight was acknowledged for so long that the peer may be gone. @param now ms. */
  silent(now: number): boolean {
    return this.#unheard(now) > SILENT + OVERDUE * this.#knownRtt;
  }

  /** ms since the last acknowledgement, or since bytes were sent while nothing was in flight. */
  #unheard(now: number): number {
    return this.inFlight > 0 ? now - this.#ackedTime : 0;
  }

  get #knownRtt(): number {
    const rtt = Math.min(this.#base, this.minRtt);
    return rtt === Number.POSITIVE_INFINITY ? SILENT : rtt;
  }

  #isStall(now: number): boolean {
    return now - this.#ackedTime > Math.max(STALL_MIN, STALL * this.#base);
  }

  /** Bytes that may be sent now; zero or less: none. */
  get room(): number {
    return Math.min(this.size - this.inFlight, this.#pace.credit);
  }

  /** ms until more may be sent without an acknowledgement; infinite = never. */
  get wait(): number {
    return this.inFlight < this.size && this.#pace.credit <= 0 ? this.#pace.wait : Number.POSITIVE_INFINITY;
  }

  /** Bytes that were sent and are not acknowledged. */
  get inFlight(): number {
    return this.#flight.bytesInFlight;
  }

  /** Round trip time at which the window neither grows nor shrinks, ms. */
  get #target(): number {
    return (
      this.#base * (1 + (this.#crossTraffic.present ? SHARED_PART : SLACK_PART)) +
      SLACK +
      SLACK_SPREAD * this.#spread
    );
  }

  /** What the path needs to be full, bytes; 0 = unknown. */
  get #need(): number {
    let best = 0;
    for (let i = 0; i < BEST_OF; i++) best = Math.max(best, this.#needs[i] ?? 0);
    return best;
  }

  /** Count anew what may be sent. Call it before `room` is asked for. @param now ms. */
  refill(now: number): void {
    this.#pace.rate = this.#base === Number.POSITIVE_INFINITY ? this.#base : (PACE * this.size) / this.#base;
    this.#pace.fill(now);
  }

  /**
   * Record that the stream was given some bytes.
   * @param more frames are left that wait.
   * @param now ms.
   */
  sent(bytes: number, more: boolean, now: number): void {
    if (this.inFlight === 0) this.#ackedTime = now;
    const full = this.inFlight + bytes >= this.size;
    if (full) {
      if (now - this.#fullTime > RESTART && this.phase !== "startup") this.#restart();
      this.#fullTime = now;
    }
    this.#pace.credit -= bytes;
    this.#flight.add(bytes, full || more, now);
    this.#round.full ||= full;
  }

  /**
   * Take an acknowledgement, and set the window.
   * @param total bytes that the peer has received since the beginning, modulo 2^32.
   * @param delay ms from the arrival of the last of them until the peer acknowledged it.
   * @param now ms.
   * @returns false if that is more than was sent.
   */
  acked(total: number, delay: number, now: number): boolean {
    const flight = this.#flight;
    const newly = (total - (flight.acked % 0x1_0000_0000)) >>> 0;
    if (newly > this.inFlight) return false;
    if (newly === 0) return true;
    flight.acked += newly;
    const round = this.#round;
    round.acked(newly);
    round.stalled ||= this.#isStall(now);
    this.#ackedTime = now;
    let latest = Number.POSITIVE_INFINITY;
    while (flight.next()) {
      const rtt = Math.max(0.01, now - flight.time - delay);
      this.#minRtt.add(rtt, now);
      // Little in flight makes no queue, and says nothing about how much the path takes.
      if (flight.limited === 0 && flight.inFlight < this.size / 2) continue;
      if (flight.limited === 1) {
        round.limited = true;
        latest = rtt;
      }
      round.add(flight.bytes, rtt, flight.inFlight);
    }
    if (this.phase === "startup") this.#double(newly, latest);
    if (flight.acked >= this.#roundEnd && now - this.#roundStart >= ROUND) this.#endRound(now);
    // Frames sent in one burst would be a queue of their own: the window opens by half of what came.
    if (this.phase !== "startup") this.size = Math.min(this.size + newly / 2, this.#goal());
    this.size = Math.min(WINDOW_MAX, Math.max(this.least, this.size));
    this.refill(now);
    return true;
  }

  /** Take the round trip time of a PING, ms. @param now ms. */
  measured(rtt: number, now: number): void {
    this.#minRtt.add(rtt, now);
    this.#crossTraffic.ping(rtt, now);
  }

  /** How large the window should be, bytes. */
  #goal(): number {
    if (this.phase === "steady") return this.#need;
    return (this.#deep ? DEEP_DIP : DIP) * Math.max(this.rate, this.#rateBefore) * this.#base;
  }

  /** One round trip has passed since the round began. */
  #endRound(now: number): void {
    const round = this.#round;
    this.#roundEnd = this.#flight.sent;
    this.#roundStart = now;
    // With less to send than is allowed there may be a queue all the same: the path has become slower.
    if (round.bytes > 0 && (round.limited || round.rtt > this.#target)) this.#judge(now);
    round.clear();
  }

  #judge(now: number): void {
    const { rtt, deviation, stalled } = this.#round;
    this.#stalls = stalled && this.phase !== "startup" ? this.#stalls + 1 : 0;
    if (this.#stalls > 0 && this.#stalls <= STALLS) {
      this.#spreadBy(Math.min(deviation, this.#base), SPREAD_RARE_PART);
      return;
    }
    this.#stalls = 0;
    this.#crossTraffic.round(rtt, now);
    if (this.phase === "dip") this.#dipped(now);
    else this.#take(now);
  }

  /** Set the window by a round that is no part of a dip. */
  #take(now: number): void {
    const { rtt, inFlight, deviation, full } = this.#round;
    // One round is now and then faster than others: that is no base.
    this.#base = Math.min(this.#base, Math.max(rtt, this.#rttBefore));
    this.#rttBefore = rtt;
    this.#rateBefore = this.rate;
    this.rate = inFlight / rtt;
    this.#crossTraffic.take(this.rate, this.#base);
    const target = this.#target;
    // A queue of ours makes round trip times differ as well: that is not what the path does.
    this.#spreadBy(rtt <= target ? deviation : 0, SPREAD_PART);
    this.#rounds++;
    if (rtt <= 1.03 * this.#base + 0.5) this.#seen(now);
    this.#emptyRounds = 2 * rtt < this.#base + target ? this.#emptyRounds + 1 : 0;
    const haste = rtt < target ? HASTE ** Math.max(0, this.#emptyRounds - HASTE_AFTER) : 1;
    const clump = Math.min(CLUMP * this.#round.clump, CLUMP_MOST * this.size);
    const held = full ? Math.max(inFlight, Math.min(this.size, inFlight + clump)) : inFlight;
    const need = held * Math.min(GROWTH, (target / rtt) * haste);
    if (this.phase === "startup") {
      this.#startup(rtt, need, now);
      return;
    }
    // Less was in flight only because it is sent bit by bit.
    if (!full && need < this.#need && rtt <= target) return;
    this.#needAt = (this.#needAt + 1) % BEST_OF;
    this.#needs[this.#needAt] = need;
    const most = this.#need;
    if (rtt <= target || most > this.#neededBefore) this.#neededBefore = most;
    this.#cutRounds = most < CUT * this.#neededBefore ? this.#cutRounds + 1 : 0;
    const due = this.#rounds > DIP_ROUNDS && now - this.#seenTime > DIP_TIME;
    if (this.#cutRounds >= CUT_ROUNDS) this.#dip(true);
    else if (due) this.#dip(false);
  }

  /**
   * Startup: open the window by what was acknowledged, up to what was needed before a restart. While a queue
   * stands, it would only make that longer.
   * @param rtt round trip time of the last of these bytes before which the window was full, ms.
   */
  #double(newly: number, rtt: number): void {
    const empty = Math.min(this.#base, STARTUP * this.minRtt);
    if (rtt > STARTUP_QUEUE * empty + 2 * SLACK) return;
    const most = this.#need > 0 ? Math.max(this.#need, this.size) : WINDOW_MAX;
    this.size = Math.min(most, this.size + newly);
  }

  /** End startup if the round has shown what the path holds. */
  #startup(rtt: number, need: number, now: number): void {
    const grown = this.rate > STARTUP_GROWTH * this.#rateBefore;
    const target = this.#target;
    // After a restart TCP below us has caught up.
    if (rtt <= target && this.#need > 0 && this.size >= this.#need) {
      this.phase = "steady";
      this.#seen(now);
      return;
    }
    this.size = Math.min(this.size, Math.max(INITIAL, STARTUP * this.rate * target));
    this.#queuedRounds = rtt > STARTUP_QUEUE * this.#base + 2 * SLACK ? this.#queuedRounds + 1 : 0;
    if ((rtt <= target || grown) && this.#queuedRounds < 2 && this.size < WINDOW_MAX) return;
    this.#needs.fill(0);
    this.#needs[this.#needAt] = this.#neededBefore = need;
    // A queue of this startup may stand. Without it `base` shows.
    this.#dip(true);
    this.#fell = false;
  }

  /** The window was not full for a while. */
  #restart(): void {
    this.phase = "startup";
    this.rate = 0;
    this.#queuedRounds = this.#emptyRounds = this.#cutRounds = 0;
  }

  /** Begin a dip. @param fell it is because the window fell; then it is a deep one at once. */
  #dip(fell: boolean): void {
    this.phase = "dip";
    this.#fell = this.#deep = fell;
    this.#dipRounds = this.#cutRounds = 0;
  }

  /** Take a round of a dip. */
  #dipped(now: number): void {
    const { rtt, deviation } = this.#round;
    // The bytes of the first round were sent before the dip.
    if (++this.#dipRounds < 2) return;
    if (!this.#deep && rtt > SAME * this.#base + SLACK + this.#spread) {
      this.#deep = true;
      this.#dipRounds = 0;
      return;
    }
    // The window fell, and what it fell for was no queue of ours.
    if (this.#fell && rtt > this.#target) this.#needs[this.#needAt] = this.#neededBefore;
    this.#base = this.#rttBefore = rtt;
    this.#spreadBy(deviation, SPREAD_RARE_PART);
    this.#crossTraffic.judge(rtt, SLACK + this.#spread);
    this.#neededBefore = this.#need;
    this.phase = "steady";
    this.#emptyRounds = -2;
    this.#seen(now);
  }

  /** The round trip time was `base`: no dip is due for a while. */
  #seen(now: number): void {
    this.#rounds = 0;
    this.#seenTime = now;
  }

  #spreadBy(deviation: number, part: number): void {
    this.#spread += (deviation - this.#spread) * part;
  }
}
