/**
 * Messages of the other channels of a tunnel's connection, on their way out. They go ahead of the frames, so
 * that a command is answered soon, but only a share of the path is theirs, so that a log that floods does not
 * slow frames.
 */

/** The most bytes of data in a packet of another channel. */
export const MESSAGE_DATA = 4096;
/** The most bytes of such a message, with a header of any kind. */
export const MESSAGE_MAX = MESSAGE_DATA + 128;
/** What a message costs besides its bytes, in bytes, when they are counted: about what its object takes. */
export const MESSAGE_COST = 256;
/** Bytes that may leave at once after a pause. */
const BURST = 8192;
/** Of the path's rate, what is theirs while frames wait. */
const SHARE = 1 / 8;
/** Bytes/ms that are theirs: at least while frames wait, and at least while none does. */
const LEAST = { busy: 4, idle: 64 } as const;

export class ChannelMessages {
  readonly #queue: Uint8Array[] = [];
  /** Bytes that may leave now, and when that was so, ms. Below zero after a message longer than it. */
  #credit = BURST;
  #at = 0;
  /** Bytes that wait, each message with its cost. */
  bytes = 0;

  get waiting(): boolean {
    return this.#queue.length > 0;
  }

  add(payload: Uint8Array): void {
    this.#queue.push(payload);
    this.bytes += payload.length + MESSAGE_COST;
  }

  /**
   * ms until the next message may leave; 0: now, Infinity: none waits.
   * @param rate of the path, bytes/ms; 0 = unknown. @param busy frames wait.
   */
  due(now: number, rate: number, busy: boolean): number {
    if (!this.waiting) return Number.POSITIVE_INFINITY;
    const speed = Math.max(busy && rate > 0 ? LEAST.busy : LEAST.idle, rate * SHARE);
    this.#credit = Math.min(BURST, this.#credit + speed * Math.max(0, now - this.#at));
    this.#at = now;
    return this.#credit > 0 ? 0 : (1 - this.#credit) / speed;
  }

  /** The next message. It stays until `shift`. */
  get next(): Uint8Array | undefined {
    return this.#queue[0];
  }

  /** The next message has left. @returns what it counted in `bytes`. */
  shift(): number {
    const size = (this.#queue.shift()?.length ?? 0) + MESSAGE_COST;
    this.bytes -= size;
    this.#credit -= size;
    return size;
  }
}
