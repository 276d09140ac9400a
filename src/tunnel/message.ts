/** The tunnel's messages to the byte (docs/protocol.md): a header of 4 bytes, then the payload. */

import { readU16, readU32, writeU32 } from "../bytes.ts";

/** Version of the tunnel's protocol, said in HELLO. */
export const VERSION = 1;

/** Header: u8 type, u24 big-endian length of the payload in bytes. */
export const HEADER = 4;
export const PAYLOAD_MAX = 131_072;

export const TYPE = {
  /** First message each way: u8 version, u8 reserved, u16 MTU, u32 features (a bit set; unknown bits are ignored). */
  hello: 0,
  /** One Ethernet frame without its checksum. */
  frame: 1,
  /** u64 timestamp of the sender's own choice; answered at once. */
  ping: 2,
  /** The payload of a PING, echoed. */
  pong: 3,
  /** The last message: why the sender ends the tunnel, UTF-8. */
  close: 4,
  /** A virtio-net header (10 bytes, virtio.ts), then a frame that may be many at once and lack its checksum. */
  offloaded: 5,
  /** u32 bytes of FRAME and OFFLOADED messages received so far, headers and all, modulo 2^32; u32 how long ago the last came, µs. */
  ack: 6,
} as const;
const TYPES = 6;

/**
 * Feature bits of HELLO: what the sender takes. The lower ones are those of TUNSETOFFLOAD (linux/if_tun.h): checksums 1, TCP over
 * IPv4 2 and IPv6 4, with ECN 8, UDP over IPv4 0x20 and IPv6 0x40.
 */
export const FEATURE_OFFLOADS = 0xff;
/** It answers frames with ACK, and understands those that it gets. */
export const FEATURE_ACK = 0x100;
export const ACK_LENGTH = 8;

export const HELLO_LENGTH = 8;
export const PING_LENGTH = 8;
const PAIR_LENGTH = 8;
/** An Ethernet header; a frame of 64 KB with two VLAN tags. */
export const FRAME_MIN = 14;
export const FRAME_MAX = 65_550;
/**
 * The framing of WalT's own VPN client and server instead of these messages: u16 length, frame, nothing else. It has no handshake,
 * so what a frame may be long follows from the MTU alone: an Ethernet header and two VLAN tags more.
 */
export const ORIGINAL_HEADER = 2;
/** Its C program has room for no larger frames. */
export const ORIGINAL_MTU = 1500;
export function originalMax(mtu: number): number {
  return Math.min(mtu + 22, 0xffff);
}

/** A virtio-net header and an Ethernet header. */
export const OFFLOADED_MIN = 24;
/** Bytes. */
export const REASON_MAX = 200;
/** Least and largest MTU that HELLO may say: IPv4's least (RFC 791), the most that u16 holds. */
export const MTU_MIN = 68;
export const MTU_MAX = 65_535;

export function writeHeader(bytes: Uint8Array, offset: number, type: number, length: number): void {
  bytes[offset] = type;
  bytes[offset + 1] = length >>> 16;
  bytes[offset + 2] = length >>> 8;
  bytes[offset + 3] = length;
}

/** The payload's length in bytes that the header at `offset` says. */
export function lengthAt(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset + 1] ?? 0) << 16) | ((bytes[offset + 2] ?? 0) << 8) | (bytes[offset + 3] ?? 0);
}

/** What is wrong with a header, in words; undefined = nothing. */
export function headerProblem(type: number, length: number): string | undefined {
  if (type > TYPES) return `a message of unknown type ${type}`;
  if (length > PAYLOAD_MAX) return `a message of ${length} bytes, more than ${PAYLOAD_MAX}`;
  switch (type) {
    case TYPE.hello:
      return length === HELLO_LENGTH ? undefined : `a hello of ${length} bytes instead of ${HELLO_LENGTH}`;
    case TYPE.frame:
      return frameProblem(length, FRAME_MAX);
    case TYPE.offloaded:
      return length >= OFFLOADED_MIN ? undefined : `an offloaded frame of ${length} bytes`;
    case TYPE.ack:
      return length === ACK_LENGTH ? undefined : `an acknowledgement of ${length} bytes`;
    case TYPE.ping:
    case TYPE.pong:
      return length === PING_LENGTH ? undefined : `a ping of ${length} bytes instead of ${PING_LENGTH}`;
    default:
      return length <= REASON_MAX ? undefined : `a reason of ${length} bytes, more than ${REASON_MAX}`;
  }
}

/** What is wrong with a frame's length, bytes, in words; undefined = nothing. */
export function frameProblem(length: number, max: number): string | undefined {
  if (length >= FRAME_MIN && length <= max) return undefined;
  return `a frame of ${length} bytes, not ${FRAME_MIN} to ${max}`;
}

/** Write a HELLO message. Returns its length in bytes, header and all, as every `write…` below. */
export function writeHello(bytes: Uint8Array, offset: number, mtu: number, features = 0): number {
  writeHeader(bytes, offset, TYPE.hello, HELLO_LENGTH);
  bytes.fill(0, offset + HEADER, offset + HEADER + HELLO_LENGTH);
  bytes[offset + HEADER] = VERSION;
  bytes[offset + HEADER + 2] = mtu >>> 8;
  bytes[offset + HEADER + 3] = mtu;
  writeU32(bytes, offset + HEADER + 4, features);
  return HEADER + HELLO_LENGTH;
}

/** What is wrong with the payload of a HELLO at `offset`, in words; undefined = nothing. */
export function helloProblem(bytes: Uint8Array, offset: number): string | undefined {
  const version = bytes[offset];
  if (version !== VERSION) return `version ${version} of the tunnel, and we speak version ${VERSION}`;
  const mtu = readU16(bytes, offset + 2);
  return mtu >= MTU_MIN ? undefined : `an MTU of ${mtu} bytes`;
}

/** Ethernet's: every end can do this, and less is no reason for anybody to change anything. */
const MTU_ETHERNET = 1500;

/** What both ends can do, of our MTU and that in the payload of a HELLO at `offset`, bytes. */
export function commonMtu(ours: number, bytes: Uint8Array, offset: number): number {
  return Math.min(ours, Math.max(MTU_ETHERNET, readU16(bytes, offset + 2)));
}

/** The feature bits in the payload of a HELLO at `offset`. */
export function featuresAt(bytes: Uint8Array, offset: number): number {
  return readU32(bytes, offset + 4);
}

/** Write a PING, PONG or ACK: two numbers. A PING's is a u64 as two halves. */
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

/** Write a CLOSE; the reason is cut after a whole character, at most 200 bytes. */
export function writeClose(bytes: Uint8Array, offset: number, reason: string): number {
  const start = offset + HEADER;
  const { written } = new TextEncoder().encodeInto(reason, bytes.subarray(start, start + REASON_MAX));
  writeHeader(bytes, offset, TYPE.close, written);
  return HEADER + written;
}
