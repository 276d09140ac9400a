/**
 * Writes to a socket whose peer may be slow or stuck, without waiting: a bounded number of bytes is kept for
 * it.
 */

/** The part of a socket that is used here. */
export interface Sink {
  /** Write, and return how many bytes the socket took; less than 0 when it is closed. */
  write(bytes: Uint8Array): number;
}

/** A socket with its queue. The owner of the socket calls `drain()` when the socket has room again. */
export class BoundedSocket {
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #skipped = 0;

  /**
   * @param limit bytes that may wait. Bytes that are written while so many wait are skipped.
   * @param gap makes the text that is sent in place of skipped bytes, once there is room again; nothing is
   *   sent without it.
   */
  constructor(
    readonly socket: Sink,
    readonly limit: number,
    readonly gap?: (skipped: number) => Uint8Array,
  ) {}

  /** How many bytes wait now. */
  get waiting(): number {
    return this.#bytes;
  }

  /**
   * Send bytes, or keep them until there is room, or skip them. The caller may use its buffer again
   * afterwards.
   */
  write(bytes: Uint8Array): void {
    // Once bytes were skipped, all bytes are skipped until the peer has read all that waits: this makes one
    // gap instead of many small ones.
    if (this.#skipped > 0) {
      this.#skipped += bytes.length;
      return;
    }
    const rest = this.#bytes > 0 ? bytes : this.#send(bytes);
    const room = this.limit - this.#bytes;
    this.#keep(rest.subarray(0, room));
    this.#skipped += Math.max(0, rest.length - room);
  }

  /** Send what waits. To be called when the socket has room again. */
  drain(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting.shift() ?? new Uint8Array();
      const rest = this.#send(first);
      this.#bytes -= first.length - rest.length;
      if (rest.length === 0) continue;
      this.#waiting.unshift(rest);
      return;
    }
    this.#closeGap();
  }

  #closeGap(): void {
    if (this.#skipped === 0) return;
    const skipped = this.#skipped;
    this.#skipped = 0;
    if (this.gap !== undefined) this.#keep(this.#send(this.gap(skipped)));
  }

  /**
   * @returns the bytes that the socket did not take; none when it is closed, which its owner learns
   *   elsewhere.
   */
  #send(bytes: Uint8Array): Uint8Array {
    const taken = this.socket.write(bytes);
    return taken < 0 ? new Uint8Array() : bytes.subarray(taken);
  }

  #keep(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes.slice()); // the caller may change its buffer after the call
    this.#bytes += bytes.length;
  }
}
