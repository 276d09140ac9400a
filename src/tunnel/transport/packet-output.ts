/**
 * The packets of a connection on their way out: sealed one behind the other into a buffer, which leaves with
 * few writes.
 */

import { writeU32 } from "../../bytes.ts";
import { BufferPool } from "../../linux/buffer-pool.ts";
import { allocate, at, EAGAIN, libc, type Memory } from "../../linux/libc.ts";
import {
  DATA_HEADER,
  DATA_MAX,
  type Keys,
  OVERHEAD,
  PAYLOAD,
  Sealer,
} from "../../ssh/handshake/packet-cipher.ts";
import { passing } from "./stream.ts";

/** A packet of data. */
const DATA_PACKET = DATA_MAX + DATA_HEADER + OVERHEAD;
/** Bytes that wait to be sent at most; of these, what is kept for answers. */
const ANSWERS = 8192;
const OUTPUT = 6 * DATA_PACKET + ANSWERS;
/** No answer is longer: a key exchange's messages, sealed. */
const ANSWER_MAX = 2048;

/**
 * Of a thread (modules are per thread), made when first needed: a packet on its way to be sealed, and what
 * waits to be sent.
 */
let own: { packet: Memory; outputs: BufferPool } | undefined;
function shared(): { packet: Memory; outputs: BufferPool } {
  own ??= { packet: allocate(DATA_PACKET), outputs: new BufferPool(OUTPUT) };
  return own;
}

export class PacketOutput {
  /** Bytes of packets so far, and of those what has left. */
  bytes = 0;
  left = 0;
  #sealer: Sealer;
  /** Packets that wait to be sent: from `#sent` to `#end`. */
  #output: Memory | undefined;
  #sent = 0;
  #end = 0;

  constructor(
    readonly fd: number,
    keys: Keys,
  ) {
    this.#sealer = new Sealer(keys);
  }

  get pending(): boolean {
    return this.#sent < this.#end;
  }
  /** There is room for a packet of data, and for an answer. */
  get takesData(): boolean {
    return this.#end + DATA_PACKET <= OUTPUT - ANSWERS;
  }
  get takesAnswer(): boolean {
    return this.#end + ANSWER_MAX <= OUTPUT;
  }

  /** There is room for a message of so many bytes, and for answers. */
  takes(length: number): boolean {
    return this.#end + length + OVERHEAD <= OUTPUT - ANSWERS;
  }

  /** The address for the data of the next `seal`. */
  get data(): number {
    return shared().packet.address + PAYLOAD + DATA_HEADER;
  }

  /** Send what waits. @returns bytes that left, or -errno when the connection is broken. */
  flush(): number {
    const output = this.#output;
    if (output === undefined) return 0;
    const n = libc.write(this.fd, at(output.address + this.#sent), this.#end - this.#sent);
    if (n < 0) {
      const code = passing();
      return code === EAGAIN ? 0 : -code;
    }
    this.#sent += n;
    this.left += n;
    if (this.#sent === this.#end) this.#giveBack();
    return n;
  }

  /**
   * A message of type, channel and a number, and so many bytes that stand at `data`. It makes no garbage:
   * these are many.
   */
  seal(type: number, channel: number, value: number, length: number): void {
    const { bytes } = shared().packet;
    bytes[PAYLOAD] = type;
    writeU32(bytes, PAYLOAD + 1, channel);
    writeU32(bytes, PAYLOAD + 5, value);
    this.#put(DATA_HEADER + length);
  }

  /** Any other message. @throws Error when the peer takes no answers: it asks without end. */
  send(payload: Uint8Array): void {
    if (this.#end + payload.length + OVERHEAD > OUTPUT)
      throw new Error("more questions than it takes answers to");
    shared().packet.bytes.set(payload, PAYLOAD);
    this.#put(payload.length);
  }

  /** From the next packet on. */
  rekey(keys: Keys): void {
    this.#sealer.free();
    this.#sealer = new Sealer(keys);
  }

  /** What waits is given up. */
  free(): void {
    this.#giveBack();
    this.#sealer.free();
  }

  #put(length: number): void {
    const { packet, outputs } = shared();
    this.#output ??= outputs.take();
    const size = this.#sealer.seal(packet, length, this.#output, this.#end);
    this.#end += size;
    this.bytes += size;
  }

  #giveBack(): void {
    if (this.#output !== undefined) shared().outputs.give(this.#output);
    this.#output = undefined;
    this.#sent = this.#end = 0;
  }
}
