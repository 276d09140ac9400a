/**
 * The virtio-net header in front of an offloaded frame (virtio 1.2, section 5.1.6, without num_buffers). 10
 * bytes, little-endian: u8 flags, u8 gso_type, u16 hdr_len, u16 gso_size, u16 csum_start, u16 csum_offset.
 * csum_start counts from the beginning of the frame, csum_offset from csum_start.
 */

import { findHeaders, fold, Headers, sum16, TCP, UDP, writeU16 } from "./headers.ts";

/** Bytes of the header. */
export const VIRTIO = 10;

/** Bit of flags: the checksum is to be computed, over everything from csum_start on. */
export const NEEDS_CSUM = 1;
/** Bit of flags: the checksum is known to be right. */
const DATA_VALID = 2;

/** Values of gso_type: how the frame is to be split into segments. */
export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;
/** Bit of gso_type for TCP: the first segment has the flag CWR, the others must not. */
const GSO_ECN = 0x80;

/**
 * The least segment of TCP, bytes (Linux: TCP_MIN_SND_MSS): a peer must not turn one frame into very many.
 */
const TCP_SEGMENT_MIN = 48;
/** The most segments of one UDP frame (Linux: UDP_MAX_SEGMENTS), for the same reason. */
const UDP_SEGMENTS_MAX = 128;

const found = new Headers();

/** Read a little-endian u16; 0 beyond the end of `bytes`. */
export function littleU16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
}

/** Write a little-endian u16. */
export function writeLittleU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

/** Whether the header at offset `at` asks for a checksum or for segmentation. */
export function isOffloaded(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] ?? 0) & NEEDS_CSUM) !== 0 || bytes[at + 1] !== GSO_NONE;
}

/**
 * Make a virtio-net header from a peer safe for the kernel. Everything in it that the frame itself tells is
 * set from the frame.
 *
 * Only a checksum of TCP or UDP is left for the kernel to compute. Any other is computed here, before the
 * guard looks at the frame: the kernel would write it wherever the header says, also over an address or a
 * port that the guard has checked.
 * @param at offset of the header; the frame follows.
 * @param end offset behind the frame.
 * @param trusted whether to believe the peer that a checksum is right.
 * @returns false if the header contradicts the frame: drop the frame.
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
  // The header asks for exactly the checksum that TCP or UDP has.
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

/**
 * Compute a checksum, and write it.
 * @param from offset in `bytes` where the bytes that it covers begin.
 * @param offset of the checksum's field, counted from `from`. The field must hold the sum of the
 *   pseudo-header.
 * @param start where the frame begins.
 * @param end where it ends; the checksum covers everything up to there.
 * @returns false if the field is outside of what the checksum covers, or `from` is in the Ethernet header.
 */
export function complete(
  bytes: Uint8Array,
  from: number,
  offset: number,
  start: number,
  end: number,
): boolean {
  if (from < start + 14 || from + offset + 2 > end) return false;
  // The field is summed with the rest, and adds the pseudo-header. In UDP zero would mean "no checksum" (RFC
  // 768).
  const sum = ~fold(sum16(bytes, from, end)) & 0xffff;
  writeU16(bytes, from + offset, sum === 0 ? 0xffff : sum);
  return true;
}

/**
 * Offset at which the transport header ends and the data begin.
 * @param of headers of a frame with TCP or UDP.
 */
export function transportEnd(bytes: Uint8Array, of: Headers): number {
  return of.transport + (of.protocol === TCP ? ((bytes[of.transport + 12] ?? 0) >> 4) * 4 : 8);
}

/**
 * How many frames the kernel makes of the frame whose virtio-net header is at `at`, after `sanitise` has passed it.
 * @returns the number of segments of a super-frame, 1 for any other frame.
 */
export function segmentsOf(bytes: Uint8Array, at: number, end: number): number {
  if (bytes[at + 1] === GSO_NONE) return 1;
  const data = at + VIRTIO + littleU16(bytes, at + 2);
  return Math.max(1, Math.ceil((end - data) / Math.max(1, littleU16(bytes, at + 4))));
}

/**
 * Whether the kernel may split the frame in `found` into segments of `size` bytes, as `gso` (gso_type) says.
 */
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
