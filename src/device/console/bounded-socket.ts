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

  /** @param limit bytes that may wait. Bytes that are written while so many wait are skipped. */
  constructor(
    readonly socket: Sink,
    readonly limit: number,
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
    const rest = this.#bytes > 0 ? bytes : this.#send(bytes);
    this.#keep(rest.subarray(0, this.limit - this.#bytes));
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
