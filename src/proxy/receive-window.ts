/**
 * How much a client may send on one channel (RFC 4254 section 5.2). The window is opened again only for bytes
 * that have left our memory, so that no more than the window can ever wait.
 */

export class ReceiveWindow {
  /** Bytes that the client may still send. */
  #left: number;
  /** Bytes that have left our memory, and for which the window was not opened yet. */
  #owed = 0;
  #inputEnded = false;
  #released = false;

  /**
   * `size` is in bytes; `open` tells the client that it may send so many bytes more; `released` hears once
   * that the channel needs its window no longer.
   */
  constructor(
    readonly size: number,
    private readonly open: (bytes: number) => void,
    private readonly released: () => void = () => {},
  ) {
    this.#left = size;
  }

  /** Bytes that have come and are still in our memory. */
  get held(): number {
    return this.#released ? 0 : this.size - this.#left - this.#owed;
  }

  /** So many bytes have come. False when the client was not allowed to send them. */
  received(bytes: number): boolean {
    if (this.#inputEnded || bytes > this.#left) return false;
    this.#left -= bytes;
    return true;
  }

  /** The client has said that it sends no more. */
  inputEnds(): void {
    this.#inputEnded = true;
  }

  /** So many bytes that came are gone from our memory: passed on, or thrown away. */
  consumed(bytes: number): void {
    if (this.#released) return;
    this.#owed += bytes;
    if (this.#inputEnded || this.#owed < this.size / 2) return;
    this.#left += this.#owed;
    this.open(this.#owed);
    this.#owed = 0;
  }

  /** Nothing of the channel is left. */
  free(): void {
    if (this.#released) return;
    this.#released = true;
    this.released();
  }
}
