/**
 * What the acknowledgements of one round trip tell: sums over its bytes, and from these the means.
 */
export class Round {
  /** Bytes that count in it. */
  bytes = 0;
  /** For some of them there was more to send than was allowed. */
  limited = false;
  /** The window was full while some of them were sent. */
  full = false;
  /** Acknowledgements stalled in it. */
  stalled = false;
  /** Sum of the round trip times of all bytes, ms. */
  #rtts = 0;
  /** Sum of their squares. */
  #squares = 0;
  /** Sum of the bytes in flight when each byte was sent. */
  #inFlight = 0;
  /** Bytes acknowledged, and the sum of the squares of those acknowledged at once. */
  #acked = 0;
  #clumps = 0;

  /** @param rtt of these bytes, ms. @param inFlight bytes in flight when they were sent. */
  add(bytes: number, rtt: number, inFlight: number): void {
    this.bytes += bytes;
    this.#rtts += bytes * rtt;
    this.#squares += bytes * rtt * rtt;
    this.#inFlight += bytes * inFlight;
  }

  /** Mean round trip time, ms. */
  get rtt(): number {
    return this.#rtts / this.bytes;
  }

  /** Standard deviation of the round trip time, ms. */
  get deviation(): number {
    return Math.sqrt(Math.max(0, this.#squares / this.bytes - this.rtt ** 2));
  }

  /** Mean number of bytes in flight. */
  get inFlight(): number {
    return this.#inFlight / this.bytes;
  }

  /** Record how many bytes one acknowledgement was for. */
  acked(bytes: number): void {
    this.#acked += bytes;
    this.#clumps += bytes * bytes;
  }

  /** Bytes that are acknowledged at once, as the mean byte sees it. */
  get clump(): number {
    return this.#acked === 0 ? 0 : this.#clumps / this.#acked;
  }

  /** Begin the next one. */
  clear(): void {
    this.#acked = this.#clumps = 0;
    this.bytes = this.#rtts = this.#squares = this.#inFlight = 0;
    this.limited = this.full = this.stalled = false;
  }
}
