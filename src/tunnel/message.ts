/**
 * The tunnel's messages to the byte (docs/protocol.md): their types, their bounds, and how each is written.
 */

import { readU16, readU32, writeU32 } from "../bytes.ts";

/** Version of the tunnel's protocol. HELLO says it. */
export const VERSION = 1;

/** Bytes of a message's header: u8 type, u24 length of the payload in bytes. All numbers are big-endian. */
export const HEADER = 4;
/** The most bytes of a payload. */
export const PAYLOAD_MAX = 131_072;

export const TYPE = {
  /**
   * The first message each way: u8 version, u8 reserved, u16 MTU, u32 features (unknown bits are ignored).
   */
  hello: 0,
  /** One Ethernet frame without its checksum. */
  frame: 1,
  /** u64 that the sender chooses, here a time. The receiver answers at once with PONG. */
  ping: 2,
  /** The answer to a PING, with the same payload. */
  pong: 3,
  /** The last message each way: why the sender ends the tunnel, as UTF-8. */
  close: 4,
  /** A virtio-net header (10 bytes, frame/virtio.ts), then a frame without checksum, or a super-frame. */
  offloaded: 5,
  /**
   * u32 bytes of messages with frames received since the beginning, headers included, modulo 2^32; u32 µs since
   * the last of them came.
   */
  ack: 6,
  /** No payload, on the first lane: from here on its sender numbers all frames, on whatever lane. */
  numbering: 7,
  /** u16 flow, u32 number of the frame in that flow, modulo 2^32; then as FRAME. */
  numbered: 8,
  /** u16 flow, u32 number of the frame in that flow, modulo 2^32; then as OFFLOADED. */
  numberedOffloaded: 9,
} as const;
/** The largest type. */
const TYPE_MAX = 9;

/**
 * Feature bits of HELLO for offloads: which offloaded frames its sender takes. They are the bits of
 * TUNSETOFFLOAD (linux/if_tun.h): checksums 1, TCP over IPv4 2, TCP over IPv6 4, TCP with ECN 8, UDP over
 * IPv4 0x20, UDP over IPv6 0x40.
 */
export const FEATURE_OFFLOADS = 0xff;
/** Feature bit of HELLO: its sender acknowledges frames, and understands ACK. */
export const FEATURE_ACK = 0x100;
/** Feature bit of HELLO: the tunnel may have several lanes, and its sender understands numbered frames. */
export const FEATURE_LANES = 0x200;

/** The most lanes of a tunnel, the first included. */
export const LANES_MAX = 5;
/** Bytes of flow and number in front of a numbered frame. */
export const NUMBER_LENGTH = 6;

/** Bytes of the payload of ACK. */
export const ACK_LENGTH = 8;
/** Bytes of the payload of HELLO. */
export const HELLO_LENGTH = 8;
/** Bytes of the payload of PING and PONG. */
export const PING_LENGTH = 8;
/** Bytes of a payload of two u32. */
const PAIR_LENGTH = 8;
/** The least bytes of a frame: an Ethernet header. */
export const FRAME_MIN = 14;
/** The most bytes of a frame: 64 KB with two VLAN tags. */
export const FRAME_MAX = 65_550;

/** Bytes of a header in the original framing, which WalT's own VPN has: u16 length of the frame. */
export const ORIGINAL_HEADER = 2;
/** The largest MTU in the original framing, bytes: the buffers of its C program hold no longer frames. */
export const ORIGINAL_MTU = 1500;
/**
 * The most bytes of a frame in the original framing. It has no HELLO, so the limit follows from the MTU
 * alone: an Ethernet header and two VLAN tags more.
 */
export function originalMax(mtu: number): number {
  return Math.min(mtu + 22, 0xffff);
}

/** The least bytes of the payload of OFFLOADED: a virtio-net header and an Ethernet header. */
export const OFFLOADED_MIN = 24;
/** The most bytes of the payload of CLOSE. */
export const REASON_MAX = 200;
/** The least MTU that HELLO may say, bytes: that of IPv4 (RFC 791). */
export const MTU_MIN = 68;
/** The largest MTU that HELLO may say, bytes: the largest u16. */
export const MTU_MAX = 65_535;

/** Write a message's header. @param length of its payload, bytes. */
export function writeHeader(bytes: Uint8Array, offset: number, type: number, length: number): void {
  bytes[offset] = type;
  bytes[offset + 1] = length >>> 16;
  bytes[offset + 2] = length >>> 8;
  bytes[offset + 3] = length;
}

/** The length of the payload, bytes, in the message's header at `offset`. */
export function lengthAt(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0);
}

/** What is wrong with a message's header, in words that continue "the peer sent"; undefined = nothing. */
export function headerProblem(type: number, length: number): string | undefined {
  if (type > TYPE_MAX) return `a message of unknown type ${type}`;
  if (length > PAYLOAD_MAX) return `a message of ${length} bytes, more than ${PAYLOAD_MAX}`;
  switch (type) {
    case TYPE.hello:
      return length === HELLO_LENGTH ? undefined : `a HELLO of ${length} bytes instead of ${HELLO_LENGTH}`;
    case TYPE.frame:
      return frameProblem(length, FRAME_MAX);
    case TYPE.offloaded:
      return length >= OFFLOADED_MIN
        ? undefined
        : `an offloaded frame of ${length} bytes, less than ${OFFLOADED_MIN}`;
    case TYPE.numbered:
      return frameProblem(length - NUMBER_LENGTH, FRAME_MAX);
    case TYPE.numberedOffloaded:
      return length >= OFFLOADED_MIN + NUMBER_LENGTH
        ? undefined
        : `a numbered offloaded frame of ${length} bytes, less than ${OFFLOADED_MIN + NUMBER_LENGTH}`;
    case TYPE.numbering:
      return length === 0 ? undefined : `a NUMBERING of ${length} bytes instead of 0`;
    case TYPE.ack:
      return length === ACK_LENGTH ? undefined : `an ACK of ${length} bytes instead of ${ACK_LENGTH}`;
    case TYPE.ping:
    case TYPE.pong:
      return length === PING_LENGTH
        ? undefined
        : `a PING or PONG of ${length} bytes instead of ${PING_LENGTH}`;
    default:
      return length <= REASON_MAX ? undefined : `a CLOSE of ${length} bytes, more than ${REASON_MAX}`;
  }
}

/**
 * What is wrong with the length of a frame, in words as above; undefined = nothing.
 * @param max the most bytes of a frame.
 */
export function frameProblem(length: number, max: number): string | undefined {
  if (length >= FRAME_MIN && length <= max) return undefined;
  return `a frame of ${length} bytes, not ${FRAME_MIN} to ${max}`;
}

/**
 * Write a HELLO at `offset`.
 * @param mtu the largest that this end can do, bytes.
 * @param features FEATURE_ bits.
 * @returns bytes of the message, header included, as do the other functions that write a message.
 */
export function writeHello(bytes: Uint8Array, offset: number, mtu: number, features = 0): number {
  writeHeader(bytes, offset, TYPE.hello, HELLO_LENGTH);
  bytes.fill(0, offset + HEADER, offset + HEADER + HELLO_LENGTH);
  bytes[offset + HEADER] = VERSION;
  bytes[offset + HEADER + 2] = mtu >>> 8;
  bytes[offset + HEADER + 3] = mtu;
  writeU32(bytes, offset + HEADER + 4, features);
  return HEADER + HELLO_LENGTH;
}

/** What is wrong with the payload of a HELLO at `offset`, in words as above; undefined = nothing. */
export function helloProblem(bytes: Uint8Array, offset: number): string | undefined {
  const version = bytes[offset];
  if (version !== VERSION) {
    return `tunnel protocol version ${version}, but this end supports only version ${VERSION}`;
  }
  const mtu = readU16(bytes, offset + 2);
  return mtu >= MTU_MIN ? undefined : `an MTU of ${mtu} bytes, less than ${MTU_MIN}`;
}

/** Ethernet's MTU, bytes. Every end can do it. A peer that says less gets it nevertheless. */
const MTU_ETHERNET = 1500;

/**
 * The MTU that both ends can do, bytes.
 * @param ours ours.
 * @param offset of the payload of the peer's HELLO.
 */
export function commonMtu(ours: number, bytes: Uint8Array, offset: number): number {
  return Math.min(ours, Math.max(MTU_ETHERNET, readU16(bytes, offset + 2)));
}

/** The feature bits in the payload of a HELLO at `offset`. */
export function featuresAt(bytes: Uint8Array, offset: number): number {
  return readU32(bytes, offset + 4);
}

/** Write a PING, PONG or ACK at `offset`: two u32. In a PING or PONG they are the halves of a u64. */
export function writePair(
  bytes: Uint8Array,
  offset: number,
  type: typeof TYPE.ping | typeof TYPE.pong | typeof TYPE.ack,
  first: number,
  second: number,
): number {
  writeHeader(bytes, offset, type, PAIR_LENGTH);
  writeU32(bytes, offset + HEADER, first);
  writeU32(bytes, offset + HEADER + 4, second);
  return HEADER + PAIR_LENGTH;
}

/**
 * Make a numbered message of a FRAME or OFFLOADED: its header moves NUMBER_LENGTH bytes towards the front.
 * @param offset where the message begins; before it there are NUMBER_LENGTH bytes of room.
 * @param length its bytes, header included.
 * @param flow 0 to 0xffff.
 */
export function writeNumber(
  bytes: Uint8Array,
  offset: number,
  length: number,
  flow: number,
  number: number,
): void {
  const type = bytes[offset] === TYPE.offloaded ? TYPE.numberedOffloaded : TYPE.numbered;
  const start = offset - NUMBER_LENGTH;
  writeHeader(bytes, start, type, length - HEADER + NUMBER_LENGTH);
  bytes[start + HEADER] = flow >>> 8;
  bytes[start + HEADER + 1] = flow;
  writeU32(bytes, start + HEADER + 2, number);
}

/** Write a CLOSE at `offset`. A reason of more than REASON_MAX bytes is cut, but not inside a character. */
export function writeClose(bytes: Uint8Array, offset: number, reason: string): number {
  const start = offset + HEADER;
  const { written } = new TextEncoder().encodeInto(reason, bytes.subarray(start, start + REASON_MAX));
  writeHeader(bytes, offset, TYPE.close, written);
  return HEADER + written;
}
