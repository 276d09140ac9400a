/** The packets of a connection as they come in, read in large pieces and opened in place. */

import { BufferPool } from "../../linux/buffer-pool.ts";
import { allocate, at, libc, type Memory } from "../../linux/libc.ts";
import {
  type Keys,
  Opener,
  OVERHEAD,
  PACKET_MAX,
  PAYLOAD,
  packetSize,
} from "../../ssh/handshake/packet-cipher.ts";
import type { PacketState } from "../../ssh/handshake/packet-stream.ts";
import { passing } from "./stream.ts";

/** Bytes that are read at once. */
const INPUT = 131_072;
/** The most that is left of a packet that has not come whole. */
const PART = PACKET_MAX + OVERHEAD;
const NOTHING = new Uint8Array();

/**
 * Of a thread (modules are per thread), made when first needed: where all connections read in turn, and what
 * they leave there.
 */
let own: { input: Memory; parts: BufferPool } | undefined;
function shared(): { input: Memory; parts: BufferPool } {
  own ??= { input: allocate(PART + INPUT), parts: new BufferPool(PART) };
  return own;
}

export class PacketInput {
  /**
   * Where the payload of the packet that `next` found lies in `memory`: it stays there until the next `fill`
   * of any connection.
   */
  start = 0;
  end = 0;
  /** Bytes of packets so far. */
  bytes = 0;
  /** Number of the next packet that comes, modulo 2^32. */
  received: number;
  #opener: Opener;
  /** The first bytes of a packet that has not come whole. */
  #part: Memory | undefined;
  #partLength = 0;
  /** What comes before anything that is read. */
  #unread: Uint8Array;
  /** Of `memory`: what is not opened yet. */
  #from = 0;
  #to = 0;

  constructor(
    readonly fd: number,
    { incoming, received, unread }: Omit<PacketState, "outgoing">,
  ) {
    this.#opener = new Opener(incoming);
    this.received = received;
    this.#unread = unread;
  }

  get memory(): Memory {
    return shared().input;
  }

  /** There is something that need not be read first. */
  get more(): boolean {
    return this.#unread.length > 0;
  }

  /**
   * Read, so that no more than `room` bytes of packets are there. Call `next` until it finds none, then
   * `keep`.
   * @param room PACKET_MAX and OVERHEAD at least.
   * @returns bytes that came, 0 at the end, -errno.
   */
  fill(room: number): number {
    const { input } = shared();
    const kept = this.#partLength;
    if (this.#part !== undefined) libc.memcpy(at(input.address), at(this.#part.address), kept);
    const n = this.#read(input, kept, Math.min(INPUT, room - kept));
    this.#from = 0;
    this.#to = kept + Math.max(0, n);
    return n;
  }

  /** Open the next packet. False: it has not come whole. @throws Error when it is none of the peer's. */
  next(): boolean {
    const { input } = shared();
    const size = packetSize(input.bytes, this.#from, this.#to);
    if (size === 0 || this.#to - this.#from < size) return false;
    this.#opener.open(input, this.#from, size);
    this.start = this.#from + PAYLOAD;
    this.end = this.#opener.end;
    this.#from += size;
    this.bytes += size;
    this.received = (this.received + 1) >>> 0;
    return true;
  }

  /** Leave what is left to the next `fill`, whole packets too: this connection has had its turn. */
  putBack(): void {
    const { input } = shared();
    this.#unread = Buffer.concat([input.bytes.subarray(this.#from, this.#to), this.#unread]);
    this.#from = this.#to;
    this.keep();
  }

  /** Put aside what is left once `next` finds nothing more, for the others read into the same place. */
  keep(): void {
    const { input, parts } = shared();
    this.#partLength = this.#to - this.#from;
    if (this.#partLength > PART) throw new RangeError("what is left is more than a packet");
    if (this.#partLength > 0) {
      this.#part ??= parts.take();
      libc.memcpy(at(this.#part.address), at(input.address + this.#from), this.#partLength);
    } else if (this.#part !== undefined) {
      parts.give(this.#part);
      this.#part = undefined;
    }
  }

  /** From the next packet on. @param strict packets are counted from 0 again. */
  rekey(keys: Keys, strict: boolean): void {
    this.#opener.free();
    this.#opener = new Opener(keys);
    if (strict) this.received = 0;
  }

  /** Forget what is left, whatever it is. */
  drop(): void {
    this.#from = this.#to;
    this.#unread = NOTHING;
    this.keep();
  }

  free(): void {
    this.drop();
    this.#opener.free();
  }

  #read(input: Memory, offset: number, most: number): number {
    const { length } = this.#unread;
    if (length === 0) {
      const n = libc.read(this.fd, at(input.address + offset), most);
      return n < 0 ? -passing() : n;
    }
    const n = Math.min(length, most);
    input.bytes.set(this.#unread.subarray(0, n), offset);
    this.#unread = n === length ? NOTHING : this.#unread.subarray(n);
    return n;
  }
}
