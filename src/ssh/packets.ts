/**
 * SSH's packets under aes128-gcm@openssh.com (RFC 5647, OpenSSH's PROTOCOL section 1.6): u32 length in clear, then encrypted u8 length
 * of the padding, payload, padding; then a tag of 16 bytes.
 */

import { createCipheriv, createDecipheriv } from "node:crypto";

export const CIPHER = "aes128-gcm@openssh.com";
const ALGORITHM = "aes-128-gcm";
export const KEY_LENGTH = 16;
export const IV_LENGTH = 12;
const BLOCK = 16;
const TAG = 16;
const LENGTH = 4;
/** Longest packet that is taken, bytes without length and tag; every end has to take such a one (RFC 4253 section 6.1). */
export const PACKET_MAX = 35_000;
/** Where the payload begins in a packet. */
export const PAYLOAD = LENGTH + 1;
/** Bytes of a packet beyond its payload, at most. */
export const OVERHEAD = PAYLOAD + BLOCK + 3 + TAG;

/** What one direction is encrypted with. */
export interface Keys {
  /** 16 bytes. */
  key: Uint8Array;
  /** 12 bytes: 4 fixed, then a counter of packets. */
  iv: Uint8Array;
}

/** One direction's packets, made. */
export class Sealer {
  readonly #key: Uint8Array;
  readonly #iv: Uint8Array;

  constructor(keys: Keys) {
    this.#key = keys.key;
    this.#iv = Uint8Array.from(keys.iv);
  }

  /**
   * Seal the payload that stands at `packet[PAYLOAD]`; the 5 bytes before it and 19 behind it are written over.
   * @returns bytes that were put at `out[at]`.
   */
  seal(packet: Uint8Array, length: number, out: Uint8Array, at: number): number {
    const body = paddedLength(length);
    const padding = body - 1 - length;
    packet[0] = body >>> 24;
    packet[1] = body >>> 16;
    packet[2] = body >>> 8;
    packet[3] = body;
    packet[LENGTH] = padding;
    // Padding need not be secret, nor random: it is encrypted, and authentic.
    packet.fill(0, PAYLOAD + length, LENGTH + body);
    const cipher = createCipheriv(ALGORITHM, this.#key, this.#iv);
    cipher.setAAD(packet.subarray(0, LENGTH));
    out.set(packet.subarray(0, LENGTH), at);
    out.set(cipher.update(packet.subarray(LENGTH, LENGTH + body)), at + LENGTH);
    cipher.final();
    out.set(cipher.getAuthTag(), at + LENGTH + body);
    count(this.#iv);
    return LENGTH + body + TAG;
  }
}

/** A payload of `length` bytes with the length of its padding and at least 4 bytes of that, in whole blocks. */
function paddedLength(length: number): number {
  return Math.ceil((1 + length + 4) / BLOCK) * BLOCK;
}

/** One direction's packets, opened. */
export class Opener {
  readonly #key: Uint8Array;
  readonly #iv: Uint8Array;

  constructor(keys: Keys) {
    this.#key = keys.key;
    this.#iv = Uint8Array.from(keys.iv);
  }

  /**
   * The payload of the packet of `size` bytes at `bytes[at]`.
   * @throws Error when it is not what the peer made.
   */
  open(bytes: Uint8Array, at: number, size: number): Uint8Array {
    const decipher = createDecipheriv(ALGORITHM, this.#key, this.#iv);
    decipher.setAAD(bytes.subarray(at, at + LENGTH));
    decipher.setAuthTag(bytes.subarray(at + size - TAG, at + size));
    const body = decipher.update(bytes.subarray(at + LENGTH, at + size - TAG));
    decipher.final();
    count(this.#iv);
    const padding = body[0] ?? 0;
    if (padding < 4 || padding > body.length - 2) throw new Error("padding that cannot be");
    return body.subarray(1, body.length - padding);
  }
}

/**
 * Bytes of the packet that begins at `at`; 0 = that cannot be told yet.
 * @throws Error when there can be no such packet.
 */
export function packetSize(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < LENGTH) return 0;
  const length =
    (((bytes[at] ?? 0) << 24) |
      ((bytes[at + 1] ?? 0) << 16) |
      ((bytes[at + 2] ?? 0) << 8) |
      (bytes[at + 3] ?? 0)) >>>
    0;
  if (length < BLOCK || length > PACKET_MAX || length % BLOCK !== 0)
    throw new Error("a length that cannot be");
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
