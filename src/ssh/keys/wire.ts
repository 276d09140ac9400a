/** The data types of SSH's wire format (RFC 4251 section 5): uint32, uint64, string. */

import { WaltError } from "../../errors.ts";

/** Puts values one after the other, big-endian. */
export class WireWriter {
  readonly #parts: Buffer[] = [];

  u8(n: number): this {
    const b = Buffer.alloc(1);
    b.writeUInt8(n);
    return this.#add(b);
  }

  u32(n: number): this {
    const b = Buffer.alloc(4);
    b.writeUInt32BE(n);
    return this.#add(b);
  }

  u64(n: bigint): this {
    const b = Buffer.alloc(8);
    b.writeBigUInt64BE(n);
    return this.#add(b);
  }

  /** A uint32 length, then the bytes (UTF-8 for text). */
  string(v: string | Uint8Array): this {
    const bytes = Buffer.from(v);
    return this.u32(bytes.length).#add(bytes);
  }

  /** Bytes as they are, without a length. */
  raw(b: Uint8Array): this {
    return this.#add(Buffer.from(b));
  }

  /** Everything put so far. */
  bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  #add(b: Buffer): this {
    this.#parts.push(b);
    return this;
  }
}

/** Takes values off a block of untrusted bytes. Every method throws a WaltError where the bytes end too early. */
export class WireReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(b: Uint8Array) {
    this.#bytes = Buffer.from(b.buffer, b.byteOffset, b.byteLength);
  }

  u8(): number {
    return this.#take(1).readUInt8();
  }

  u32(): number {
    return this.#take(4).readUInt32BE();
  }

  u64(): bigint {
    return this.#take(8).readBigUInt64BE();
  }

  /** The bytes of a string: a copy, so that it outlives the block. */
  string(): Buffer {
    return Buffer.from(this.#take(this.u32()));
  }

  /** A string that must be UTF-8. */
  text(): string {
    const bytes = this.string();
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new WaltError("malformed SSH data: a text is not UTF-8");
    }
  }

  /** Bytes that are left. */
  get rest(): number {
    return this.#bytes.length - this.#at;
  }

  /** @throws WaltError when bytes are left. */
  end(): void {
    if (this.rest > 0) throw new WaltError(`malformed SSH data: ${this.rest} bytes too many`);
  }

  #take(length: number): Buffer {
    if (length > this.rest) {
      throw new WaltError(`malformed SSH data: ${length} bytes wanted, ${this.rest} left`);
    }
    const part = this.#bytes.subarray(this.#at, this.#at + length);
    this.#at += length;
    return part;
  }
}
