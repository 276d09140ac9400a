/**
 * SSH's packets under aes128-gcm@openssh.com (RFC 5647, OpenSSH's PROTOCOL section 1.6): u32 length in clear,
 * then encrypted u8 length of the padding, payload, padding; then a tag of 16 bytes.
 */

import { readU32, writeU32 } from "../../bytes.ts";
import type { Memory } from "../../linux/libc.ts";
import { AesGcm, type Libcrypto } from "../../linux/libcrypto.ts";

export const KEY_LENGTH = 16;
export const IV_LENGTH = 12;
const BLOCK = 16;
const TAG = 16;
const LENGTH = 4;
/**
 * Longest packet that is taken, bytes without length and tag; every end has to take such a one (RFC 4253
 * section 6.1).
 */
export const PACKET_MAX = 35_000;
/** Where the payload begins in a packet. */
export const PAYLOAD = LENGTH + 1;
const PADDING_MIN = 4;
/** Bytes of data in one packet of a channel at most: OpenSSH takes no more. */
export const DATA_MAX = 32_768;
/** Smaller packets of data cost us more than who asks for them. */
export const PACKET_MIN = 4096;
/** In front of data: type, channel, length. */
export const DATA_HEADER = 9;
/** Bytes of a packet beyond its payload, at most. */
export const OVERHEAD = PAYLOAD + PADDING_MIN + BLOCK - 1 + TAG;

/** What one direction is encrypted with. */
export interface Keys {
  /** 16 bytes. */
  key: Uint8Array;
  /** 12 bytes: 4 fixed, then a counter of packets. */
  iv: Uint8Array;
}

/** One direction's packets. */
class Direction {
  protected readonly cipher: AesGcm;
  readonly #key: Uint8Array;

  /** @param lib a parameter for tests. @throws as AesGcm. */
  constructor(encrypts: boolean, { key, iv }: Keys, lib?: Libcrypto) {
    this.cipher = new AesGcm(encrypts, key, iv, lib);
    this.#key = key;
  }

  /** What the next packet is encrypted with. */
  get keys(): Keys {
    return { key: this.#key, iv: Uint8Array.from(this.cipher.iv.bytes) };
  }

  free(): void {
    this.cipher.free();
  }
}

/** One direction's packets, made. */
export class Sealer extends Direction {
  constructor(keys: Keys, lib?: Libcrypto) {
    super(true, keys, lib);
  }

  /**
   * Seal the payload of `length` bytes that stands at `packet[PAYLOAD]`; what is before and behind it is
   * written over, in all `length + OVERHEAD` bytes at most.
   * @returns bytes that were put at `out[offset]`.
   * @throws Error when it cannot be sealed; what was put there is not to be sent then.
   */
  seal(packet: Memory, length: number, out: Memory, offset: number): number {
    const { bytes } = packet;
    const body = Math.ceil((1 + length + PADDING_MIN) / BLOCK) * BLOCK;
    writeU32(bytes, 0, body);
    bytes[LENGTH] = body - 1 - length;
    // Padding need not be secret, nor random: it is encrypted, and authentic.
    for (let i = PAYLOAD + length; i < LENGTH + body; i++) bytes[i] = 0;
    this.cipher.seal(packet.address, out.address + offset, LENGTH, LENGTH + body);
    // The length stands in clear.
    writeU32(out.bytes, offset, body);
    count(this.cipher.iv.bytes);
    return LENGTH + body + TAG;
  }
}

/** One direction's packets, opened. */
export class Opener extends Direction {
  /** Where the payload of the packet that was opened last ends. */
  end = 0;

  constructor(keys: Keys, lib?: Libcrypto) {
    super(false, keys, lib);
  }

  /**
   * Open the packet of `size` bytes at `offset`, in place: its payload stands from `offset + PAYLOAD` to
   * `end` then.
   * @throws Error when it is not what the peer made; there are zeros in its place then.
   */
  open(memory: Memory, offset: number, size: number): void {
    let made = false;
    try {
      made = this.cipher.open(memory.address + offset, LENGTH, size - TAG);
    } finally {
      if (!made) memory.bytes.fill(0, offset, offset + size);
    }
    if (!made) throw new Error("a forged packet");
    count(this.cipher.iv.bytes);
    const padding = memory.bytes[offset + LENGTH] ?? 0;
    this.end = offset + size - TAG - padding;
    if (padding < PADDING_MIN || this.end <= offset + PAYLOAD) throw new Error("padding that cannot be");
  }
}

/**
 * Bytes of the packet that begins at `offset`; 0 = that cannot be told yet.
 * @param max of its length field.
 * @throws Error when there can be no such packet.
 */
export function packetSize(bytes: Uint8Array, offset: number, end: number, max = PACKET_MAX): number {
  if (end - offset < LENGTH) return 0;
  const length = readU32(bytes, offset);
  if (length < BLOCK || length > max || length % BLOCK !== 0) throw new Error("a length that cannot be");
  return LENGTH + length + TAG;
}

/** The next packet's counter, the last 8 bytes, big-endian. */
function count(iv: Uint8Array): void {
  for (let i = IV_LENGTH - 1; i >= 4; i--) {
    const next = ((iv[i] ?? 0) + 1) & 255;
    iv[i] = next;
    if (next !== 0) return;
  }
}
