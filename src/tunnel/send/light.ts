/**
 * Which flows send little: a token bucket for each. What they send is what people wait for: keystrokes, names,
 * handshakes, acknowledgements.
 */

/** Bytes that a flow may send at once. */
const BURST = 6000;
/** Bytes per ms that a flow may send in the long run: the acknowledgements of a download of 60 Mbit/s. */
const RATE = 64;
/** A flow that sends more counts as one with much to send for this many ms. */
const HEAVY = 500;

export class LightFlows {
  // Of each flow, by its number:
  /** Bytes that it may send now. */
  readonly #tokens: Float64Array;
  /** When it sent last, or until when it counts as one with much to send, ms. */
  readonly #time: Float64Array;

  /** @param flows how many flows there are; their numbers are 0 to flows - 1. */
  constructor(flows: number) {
    this.#tokens = new Float64Array(flows).fill(BURST);
    this.#time = new Float64Array(flows).fill(Number.NEGATIVE_INFINITY);
  }

  /** Record that a flow sends some bytes. @param now ms. @returns whether it sends little. */
  takes(flow: number, bytes: number, now: number): boolean {
    const since = now - (this.#time[flow] ?? 0);
    const tokens = (this.#tokens[flow] ?? 0) + Math.max(0, since) * RATE;
    if (since < 0 || tokens < bytes) {
      this.#tokens[flow] = BURST;
      this.#time[flow] = now + HEAVY;
      return false;
    }
    this.#tokens[flow] = Math.min(BURST, tokens) - bytes;
    this.#time[flow] = now;
    return true;
  }
}
