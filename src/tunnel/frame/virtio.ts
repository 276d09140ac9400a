/**
 * The virtio-net header in front of an offloaded frame (virtio 1.2, 5.1.6, without num_buffers): 10 bytes, little-endian:
 * u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset. Offsets count from the frame's start.
 */

import { findHeaders, fold, Headers, sum16, TCP, UDP, writeU16 } from "./headers.ts";

export const VIRTIO = 10;

/** flags: the checksum is to be made, from csum_start on; it is known to be right. */
export const NEEDS_CSUM = 1;
const DATA_VALID = 2;

/** gso_type. */
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
const GSO_ECN = 0x80;

/** Bits of TUNSETOFFLOAD (linux/if_tun.h), used as feature bits too: what a TAP takes. */
export const OFFLOAD = { csum: 1, tso4: 2, tso6: 4, ecn: 8, uso4: 0x20, uso6: 0x40 } as const;
export const OFFLOAD_ALL = 0x6f;

/** Least segment of TCP (Linux: TCP_MIN_SND_MSS) and most segments of UDP (UDP_MAX_SEGMENTS): a peer must not make many of one. */
const TCP_SEGMENT_MIN = 48;
const UDP_SEGMENTS_MAX = 128;

const found = new Headers();

export function littleU16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
}

export function writeLittleU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

/** Whether the header at `at` asks for something: a checksum, or segmentation. */
export function isOffloaded(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] ?? 0) & NEEDS_CSUM) !== 0 || bytes[at + 1] !== GSO_NONE;
}

/**
 * Make a peer's header safe for the kernel, and the frame behind it what it will be on the network: a checksum that is not
 * plainly TCP's or UDP's is written here and now, as the kernel would write it anywhere in the frame, after the guard.
 * @param at offset of the header; the frame follows, up to `end`.
 * @param trusted whether "the checksum is right" is believed.
 * @returns false: what the header says cannot be; the frame is of no use.
 */
export function sanitise(bytes: Uint8Array, at: number, end: number, trusted: boolean): boolean {
  const start = at + VIRTIO;
  const flags = bytes[at] ?? 0;
  const gso = bytes[at + 1] ?? 0;
  const size = littleU16(bytes, at + 4);
  const sumStart = start + littleU16(bytes, at + 6);
  const sumOffset = littleU16(bytes, at + 8);
  bytes.fill(0, at, start);
  if ((flags & NEEDS_CSUM) === 0) {
    if (gso !== GSO_NONE) return false;
    if (trusted) bytes[at] = flags & DATA_VALID;
    return true;
  }
  findHeaders(bytes, start, end, found);
  const field = found.protocol === TCP ? 16 : 6;
  const plain =
    found.transport === sumStart &&
    (found.protocol === TCP || found.protocol === UDP) &&
    sumOffset === field &&
    sumStart + (found.protocol === TCP ? 20 : 8) <= end;
  if (gso === GSO_NONE && !plain) return complete(bytes, sumStart, sumOffset, start, end);
  if (!plain) return false;
  if (gso !== GSO_NONE && !isSegmentable(bytes, end, gso, size)) return false;
  bytes[at] = NEEDS_CSUM;
  bytes[at + 1] = gso;
  writeLittleU16(bytes, at + 2, gso === GSO_NONE ? 0 : transportEnd(bytes, found) - start);
  writeLittleU16(bytes, at + 4, gso === GSO_NONE ? 0 : size);
  writeLittleU16(bytes, at + 6, sumStart - start);
  writeLittleU16(bytes, at + 8, sumOffset);
  return true;
}

/** Write the checksum from `from` to the end of the frame at `from + offset`. False: it would lie outside of what it covers. */
export function complete(
  bytes: Uint8Array,
  from: number,
  offset: number,
  start: number,
  end: number,
): boolean {
  if (from < start + 14 || from + offset + 2 > end) return false;
  // The field holds the pseudo-header's sum and is summed with the rest; zero would mean "none" in UDP (RFC 768).
  const sum = ~fold(sum16(bytes, from, end)) & 0xffff;
  writeU16(bytes, from + offset, sum === 0 ? 0xffff : sum);
  return true;
}

/** Where the transport header ends and the data begins. */
export function transportEnd(bytes: Uint8Array, of: Headers): number {
  return of.transport + (of.protocol === TCP ? ((bytes[of.transport + 12] ?? 0) >> 4) * 4 : 8);
}

/**
 * How many frames the kernel makes of the frame whose virtio-net header, which `sanitise` has passed, is at `at`: 1 unless it is a
 * super-frame.
 */
export function segmentsOf(bytes: Uint8Array, at: number, end: number): number {
  if (bytes[at + 1] === GSO_NONE) return 1;
  const data = at + VIRTIO + littleU16(bytes, at + 2);
  return Math.max(1, Math.ceil((end - data) / Math.max(1, littleU16(bytes, at + 4))));
}

function isSegmentable(bytes: Uint8Array, end: number, gso: number, size: number): boolean {
  const kind = gso & ~GSO_ECN;
  const data = transportEnd(bytes, found);
  if (data - found.transport < (found.protocol === TCP ? 20 : 8) || data >= end) return false;
  if (kind === GSO_UDP_L4) {
    return gso === kind && found.protocol === UDP && size > 0 && (end - data) / size <= UDP_SEGMENTS_MAX;
  }
  const version = kind === GSO_TCPV4 ? 4 : kind === GSO_TCPV6 ? 6 : 0;
  return found.protocol === TCP && found.version === version && size >= TCP_SEGMENT_MIN;
}
