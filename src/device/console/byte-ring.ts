/** The last bytes of a stream. Writing never waits, however slow the readers are. */

/** What a reader gets. */
export interface Piece {
  /** A copy of the bytes; empty when there are no others yet. */
  readonly bytes: Uint8Array;
  /** The position to read from next. */
  readonly next: number;
  /** How many bytes before `bytes` the reader has missed, because they were overwritten. */
  readonly lost: number;
}

/** A ring buffer. A position in it is the number of bytes that were ever written before. */
export class ByteRing {
  readonly #bytes: Uint8Array;
  /** The position of the byte that comes next. */
  #end = 0;

  /** @param size bytes that are kept. */
  constructor(size: number) {
    this.#bytes = new Uint8Array(size);
  }

  /** The position of the oldest byte that is kept. */
  get start(): number {
    return Math.max(0, this.#end - this.#bytes.length);
  }

  /** The position behind the newest byte. */
  get end(): number {
    return this.#end;
  }

  write(bytes: Uint8Array): void {
    const size = this.#bytes.length;
    const last = bytes.subarray(-size);
    this.#end += bytes.length;
    const at = (this.#end - last.length) % size;
    this.#bytes.set(last.subarray(0, size - at), at);
    this.#bytes.set(last.subarray(size - at));
  }

  /** At most `max` bytes from a position, which must not be behind the end. */
  read(position: number, max: number): Piece {
    const from = Math.max(position, this.start);
    const size = this.#bytes.length;
    const at = from % size;
    const length = Math.min(max, this.#end - from, size - at);
    return { bytes: this.#bytes.slice(at, at + length), next: from + length, lost: from - position };
  }
}
