/**
 * What is in flight to the peer: a ring of records, one for each time that the stream was given bytes. It says
 * of bytes that are acknowledged when they were sent, and what was in flight then.
 */

/** Records: room in the beginning. Most links need no more. */
const RECORDS = 32;
/** Records at most. Beyond them what is sent is added to the newest record. */
const RECORDS_MAX = 512;

export class Flight {
  /** Bytes sent since the beginning. */
  sent = 0;
  /** Bytes acknowledged since the beginning. */
  acked = 0;
  /** Bytes up to the end of the last record that `next` took. */
  #taken = 0;
  /** Index of the oldest record. */
  #oldest = 0;
  #count = 0;
  // Of each record:
  /** Bytes sent since the beginning, its own included. */
  #end = new Float64Array(RECORDS);
  /** When it was sent, ms. */
  #time = new Float64Array(RECORDS);
  /** Bytes in flight after it was sent. */
  #inFlight = new Float64Array(RECORDS);
  /** 1: there was more to send than was allowed. */
  #limited = new Float64Array(RECORDS);

  /** Of the record that `next` took last: its bytes. */
  bytes = 0;
  /** When it was sent, ms. */
  time = 0;
  /** Bytes that were in flight then. */
  inFlight = 0;
  /** 1: there was more to send than was allowed. 0: there was no more to send. */
  limited = 0;

  /** Bytes that were sent and are not acknowledged. */
  get bytesInFlight(): number {
    return this.sent - this.acked;
  }

  /** Record that bytes were sent. @param limited there is more to send than is allowed. */
  add(bytes: number, limited: boolean, now: number): void {
    this.sent += bytes;
    const size = this.#end.length;
    if (this.#count === size) {
      if (size === RECORDS_MAX) {
        this.#end[(this.#oldest + size - 1) % size] = this.sent;
        return;
      }
      this.#end = doubled(this.#end, this.#oldest);
      this.#time = doubled(this.#time, this.#oldest);
      this.#inFlight = doubled(this.#inFlight, this.#oldest);
      this.#limited = doubled(this.#limited, this.#oldest);
      this.#oldest = 0;
    }
    const at = (this.#oldest + this.#count++) % this.#end.length;
    this.#end[at] = this.sent;
    this.#time[at] = now;
    this.#inFlight[at] = this.bytesInFlight;
    this.#limited[at] = limited ? 1 : 0;
  }

  /** Take the oldest record if it is acknowledged. @returns false if it is not. */
  next(): boolean {
    const at = this.#oldest;
    const end = this.#end[at] ?? 0;
    if (this.#count === 0 || end > this.acked) return false;
    this.bytes = end - this.#taken;
    this.time = this.#time[at] ?? 0;
    this.inFlight = this.#inFlight[at] ?? 0;
    this.limited = this.#limited[at] ?? 0;
    this.#taken = end;
    this.#oldest = (at + 1) % this.#end.length;
    this.#count--;
    return true;
  }
}

/** A ring of twice the size with the same numbers. The one at `oldest` comes first. */
function doubled(ring: Float64Array<ArrayBuffer>, oldest: number): Float64Array<ArrayBuffer> {
  const next = new Float64Array(2 * ring.length);
  next.set(ring.subarray(oldest));
  next.set(ring.subarray(0, oldest), ring.length - oldest);
  return next;
}
