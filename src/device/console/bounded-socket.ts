/** Writing to a socket whose peer may be slow or stuck: what it does not take waits, bounded, and nobody waits for it. */

/** What of a socket is used here; `write` returns how many bytes it took, below 0 when it is closed. */
export interface Sink {
  write(bytes: Uint8Array): number;
}

export class BoundedSocket {
  #waiting: Uint8Array[] = [];
  #bytes = 0;
  #skipped = 0;

  /**
   * @param limit bytes that wait at most; what comes while so many wait is skipped.
   * @param gap what to say in place of bytes that were skipped, once there is room again; nothing unless given.
   */
  constructor(
    readonly socket: Sink,
    readonly limit: number,
    readonly gap?: (skipped: number) => Uint8Array,
  ) {}

  /** Bytes that wait now. */
  get waiting(): number {
    return this.#bytes;
  }

  write(bytes: Uint8Array): void {
    // After a gap all is skipped until the peer has caught up: one gap, not many small ones.
    if (this.#skipped > 0) {
      this.#skipped += bytes.length;
      return;
    }
    const rest = this.#bytes > 0 ? bytes : this.#send(bytes);
    const room = this.limit - this.#bytes;
    this.#keep(rest.subarray(0, room));
    this.#skipped += Math.max(0, rest.length - room);
  }

  /** The socket has room again. */
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

  /** @returns what the socket did not take. One that is closed takes everything: its owner is told of the close. */
  #send(bytes: Uint8Array): Uint8Array {
    const taken = this.socket.write(bytes);
    return taken < 0 ? new Uint8Array() : bytes.subarray(taken);
  }

  #keep(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#waiting.push(bytes.slice()); // the caller's buffer is his again when we return
    this.#bytes += bytes.length;
  }
}
