/**
 * The packets of one connection on the main thread: bytes in, payloads out, and the other way round. It
 * begins with lines and packets in clear (RFC 4253 sections 4.2 and 6), and goes on with those of
 * packet-cipher.ts once it has keys. It does no I/O.
 */

import { readU32, writeU32 } from "../../bytes.ts";
import { allocate, type Memory } from "../../linux/libc.ts";
import { type Keys, Opener, OVERHEAD, PACKET_MAX, PAYLOAD, packetSize, Sealer } from "./packet-cipher.ts";

/** Blocks of a packet that is not encrypted yet, and its least padding (RFC 4253 section 6). */
const BLOCK = 8;
const PADDING_MIN = 4;
const NOTHING = Buffer.alloc(0);
/** Least size of the buffer for a packet that has not come whole, bytes. */
const PART_MIN = 64;

/**
 * Of a thread (modules are per thread), made when first needed: the packet that came last, opened; the next
 * one to be sent, in clear and sealed. Nothing stays in them.
 */
let own: { opened: Memory; clear: Memory; sealed: Memory } | undefined;
function shared(): { opened: Memory; clear: Memory; sealed: Memory } {
  const packet = (): Memory => allocate(PACKET_MAX + OVERHEAD);
  own ??= { opened: packet(), clear: packet(), sealed: packet() };
  return own;
}

/** What another owner of the connection needs to know to go on with its packets. */
export interface PacketState {
  /** What the next packet each way is encrypted with. */
  readonly incoming: Keys;
  readonly outgoing: Keys;
  /** Number of the next packet that comes, as UNIMPLEMENTED names it. */
  readonly received: number;
  /** Bytes that came and were not opened, encrypted as they are. */
  readonly unread: Uint8Array;
}

export class PacketStream {
  /**
   * Number of the next packet that comes, modulo 2^32; with strict key exchange counted from 0 again with
   * each new key.
   */
  received = 0;
  /** Bytes of packets so far, both ways. */
  bytes = 0;
  /** Bytes of packets that wait to be sent. */
  waiting = 0;
  #out: Uint8Array[] = [];
  /** What has come and was not opened: `#have` from `#from` to `#to`. */
  #have: Buffer = NOTHING;
  #from = 0;
  #to = 0;
  /**
   * `#have` was made here and has room behind `#to`; else it is what was pushed, of which nothing is to be
   * kept.
   */
  #ours = false;
  #opener: Opener | undefined;
  #sealer: Sealer | undefined;

  /** @param max longest packet that is taken, as its length field says; it may be changed at any time. */
  constructor(public max = PACKET_MAX) {}

  /** Bytes that came and were not opened. */
  get unread(): number {
    return this.#to - this.#from;
  }

  /** Take what came. The bytes must not change afterwards. */
  push(bytes: Uint8Array): void {
    const rest = this.unread;
    if (rest === 0) {
      this.#have = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      this.#from = 0;
      this.#to = bytes.length;
      this.#ours = false;
      return;
    }
    this.#reserve(rest + bytes.length);
    this.#have.set(bytes, this.#to);
    this.#to += bytes.length;
  }

  /**
   * The next line without its end; undefined when it has not come whole. Only before the first packet.
   * @throws Error when there is no end of a line in `max` bytes.
   */
  line(max: number): Buffer | undefined {
    const end = this.#have.subarray(this.#from, Math.min(this.#to, this.#from + max)).indexOf(10);
    if (end < 0) {
      if (this.unread >= max) throw new Error(`a line of more than ${max} bytes`);
      this.#keep();
      return undefined;
    }
    const line = this.#have.subarray(this.#from, this.#from + end);
    this.#from += end + 1;
    return Buffer.from(line.at(-1) === 13 ? line.subarray(0, -1) : line);
  }

  /**
   * The payload of the next packet; undefined when none has come whole. It stays as it is until the next call
   * for any connection.
   * @throws Error when it is none of the peer's, or too long.
   */
  next(): Uint8Array | undefined {
    const size =
      this.#opener === undefined ? this.#clearSize() : packetSize(this.#have, this.#from, this.#to, this.max);
    if (size === 0 || this.unread < size) {
      this.#keep();
      return undefined;
    }
    const packet = this.#have.subarray(this.#from, this.#from + size);
    this.#from += size;
    this.bytes += size;
    this.received = (this.received + 1) >>> 0;
    if (this.#opener === undefined) return packet.subarray(PAYLOAD, size - (packet[PAYLOAD - 1] ?? 0));
    const { opened } = shared();
    opened.bytes.set(packet);
    this.#opener.open(opened, 0, size);
    return opened.bytes.subarray(PAYLOAD, this.#opener.end);
  }

  /** Put bytes that are no packet: the version line. */
  raw(bytes: Uint8Array): void {
    this.#out.push(bytes);
    this.bytes += bytes.length;
    this.waiting += bytes.length;
  }

  /** Make a packet of a payload, which has PACKET_MAX bytes at most with what comes around it. */
  send(payload: Uint8Array): void {
    if (this.#sealer === undefined) {
      this.raw(inClear(payload));
      return;
    }
    const { clear, sealed } = shared();
    clear.bytes.set(payload, PAYLOAD);
    this.raw(sealed.bytes.slice(0, this.#sealer.seal(clear, payload.length, sealed, 0)));
  }

  /** All that waits to be sent, which is the caller's to send from now on. */
  output(): Uint8Array {
    const [first = NOTHING, ...more] = this.#out;
    this.#out = [];
    this.waiting = 0;
    return more.length === 0 ? first : Buffer.concat([first, ...more]);
  }

  /** Keys for what comes from the next packet on. @param strict packets are counted from 0 again. */
  rekeyIn(keys: Keys, strict: boolean): void {
    this.#opener?.free();
    this.#opener = new Opener(keys);
    if (strict) this.received = 0;
  }

  /** Keys for what is sent from the next packet on. */
  rekeyOut(keys: Keys): void {
    this.#sealer?.free();
    this.#sealer = new Sealer(keys);
  }

  /**
   * All that another owner needs to go on. This one is of no use afterwards but to be freed.
   * @throws Error without keys.
   */
  release(): PacketState {
    if (this.#opener === undefined || this.#sealer === undefined) throw new Error("no keys yet");
    return {
      incoming: this.#opener.keys,
      outgoing: this.#sealer.keys,
      received: this.received,
      unread: Uint8Array.from(this.#have.subarray(this.#from, this.#to)),
    };
  }

  /** Give back what the keys take, and forget what came. What waits to be sent can still be taken. */
  free(): void {
    this.#opener?.free();
    this.#sealer?.free();
    this.#opener = this.#sealer = undefined;
    this.#have = NOTHING;
    this.#from = this.#to = 0;
  }

  /** Bytes of the packet that has begun to come, without encryption; 0 = that cannot be told yet. */
  #clearSize(): number {
    if (this.unread < PAYLOAD) return 0;
    const length = readU32(this.#have, this.#from);
    const padding = this.#have[this.#from + PAYLOAD - 1] ?? 0;
    if (length > this.max || padding < PADDING_MIN || length < padding + 2) {
      throw new Error("a packet that cannot be");
    }
    return PAYLOAD - 1 + length;
  }

  /** Hold the rest of what was pushed in a buffer of its own size. */
  #keep(): void {
    if (this.unread === 0) {
      this.#have = NOTHING;
      this.#from = this.#to = 0;
      this.#ours = false;
    } else if (!this.#ours) {
      this.#reserve(this.unread);
    }
  }

  /** Have a buffer of ours that takes so many bytes from `#from` on. */
  #reserve(bytes: number): void {
    if (this.#ours && this.#from + bytes <= this.#have.length) return;
    // Twice as large each time: who sends byte by byte does not make us copy all of it each time.
    const have = Buffer.allocUnsafeSlow(Math.max(PART_MIN, bytes, this.#ours ? 2 * this.unread : 0));
    this.#have.copy(have, 0, this.#from, this.#to);
    this.#to -= this.#from;
    this.#from = 0;
    this.#have = have;
    this.#ours = true;
  }
}

function inClear(payload: Uint8Array): Uint8Array {
  const size = Math.ceil((PAYLOAD + payload.length + PADDING_MIN) / BLOCK) * BLOCK;
  const packet = new Uint8Array(size);
  writeU32(packet, 0, size - 4);
  packet[PAYLOAD - 1] = size - PAYLOAD - payload.length;
  packet.set(payload, PAYLOAD);
  return packet;
}
