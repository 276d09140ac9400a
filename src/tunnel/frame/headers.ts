/**
 * Where the headers of an Ethernet frame are. This is the only parser of frames; the guard uses it, too. Pure
 * functions over bytes that allocate no memory.
 */

import { readU16 } from "../../bytes.ts";

/** EtherTypes (IEEE 802 numbers). */
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
/** EtherTypes of VLAN tags: 802.1Q, 802.1ad, and three numbers that were in use before 802.1ad. */
const TAGS = new Set([0x8100, 0x88a8, 0x9100, 0x9200, 0x9300]);
/** VLAN tags that a frame may have: one with more counts as incomplete. Real frames have two at most. */
const TAGS_MAX = 4;
/** Up to this value the type field is a length, and an LLC header follows (IEEE 802.3). */
const LENGTH_MAX = 1535;

/** IANA protocol numbers. */
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;
/** IPv6 fragment header (RFC 8200), 8 bytes. */
const FRAGMENT = 44;
/** Authentication header (RFC 4302): its second byte is its length in units of 4 bytes, minus two. */
const AUTHENTICATION = 51;
/**
 * Other IPv6 extension headers: hop-by-hop options, routing, destination options, mobility, HIP, Shim6. They
 * begin with u8 next header, u8 length in units of 8 bytes, minus one (RFC 6564).
 */
const EXTENSIONS = new Set([0, 43, 60, 135, 139, 140]);

/** The headers of one frame, as `findHeaders` finds them: offsets in the array with the frame; -1 = none. */
export class Headers {
  /** Offset of the IP header. */
  network = -1;
  /** Version of IP, 4 or 6; 0 = not IP. */
  version = 0;
  /**
   * IP protocol number; 0 = not IP. In a fragment it is the protocol of what is fragmented, so that all
   * fragments of a datagram have the same.
   */
  protocol = 0;
  /**
   * Offset of the transport header, if the kernel would find it, too. So there is none in a fragment, behind
   * an authentication header, or in an LLC/SNAP frame.
   */
  transport = -1;
  /**
   * Offset of what follows IP and all its extension headers. None in a fragment, except for the first one.
   */
  upper = -1;
  /** IP protocol number of what is at `upper`. */
  upperProtocol = 0;
  /** The 16 bits of the last VLAN tag; 0 = the frame has no tag. */
  vlan = 0;
  /** How many VLAN tags the frame has. */
  tags = 0;
  /** EtherType behind the tags, and behind LLC/SNAP; 0 = there is none. */
  type = 0;
  /** Offset of what follows that type. */
  payload = -1;
  /** False: a header is cut off, malformed or hidden, so that nobody can tell what the frame is. */
  complete = true;
}

/**
 * Find the headers of a frame, as far as they are there.
 * @param start offset of its Ethernet header in `bytes`.
 * @param end offset behind its last byte.
 * @param found gets the result.
 */
export function findHeaders(bytes: Uint8Array, start: number, end: number, found: Headers): void {
  found.network = found.transport = found.upper = -1;
  found.payload = -1;
  found.version = found.protocol = found.upperProtocol = found.vlan = found.tags = found.type = 0;
  found.complete = end - start >= 14;
  if (!found.complete) return;
  let at = start + 12;
  let type = readU16(bytes, at);
  at += 2;
  for (let tags = 0; TAGS.has(type); tags++) {
    if (tags === TAGS_MAX || at + 4 > end) {
      found.complete = false;
      return;
    }
    found.tags = tags + 1;
    found.vlan = readU16(bytes, at);
    type = readU16(bytes, at + 2);
    at += 4;
  }
  let plain = true;
  if (type <= LENGTH_MAX && isSnap(bytes, at, end)) {
    type = readU16(bytes, at + 6);
    at += 8;
    plain = false;
  }
  found.type = type;
  found.payload = at;
  if (type === IPV4) found.complete = findIpv4(bytes, at, end, plain, found);
  else if (type === IPV6) found.complete = findIpv6(bytes, at, end, plain, found);
}

/** Whether an LLC/SNAP header with OUI zero is at `at`: an EtherType follows (RFC 1042). */
function isSnap(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    at + 8 <= end &&
    bytes[at] === 0xaa &&
    bytes[at + 1] === 0xaa &&
    bytes[at + 2] === 3 &&
    bytes[at + 3] === 0 &&
    readU16(bytes, at + 4) === 0
  );
}

/** Find an IPv4 header. @param plain not behind LLC/SNAP. @returns whether the header is complete. */
function findIpv4(bytes: Uint8Array, at: number, end: number, plain: boolean, found: Headers): boolean {
  const first = bytes[at] ?? 0;
  const header = (first & 15) * 4;
  if (at + 20 > end || first >> 4 !== 4 || header < 20 || at + header > end) return false;
  found.network = at;
  found.version = 4;
  found.protocol = found.upperProtocol = bytes[at + 9] ?? 0;
  const fragment = readU16(bytes, at + 6);
  // The lower 13 bits are the fragment's offset: only the first fragment has the transport header. The bit
  // above means that more fragments follow: then the transport header is there, but not everything that its
  // checksum covers.
  if ((fragment & 0x1fff) === 0) found.upper = at + header;
  if (plain && (fragment & 0x3fff) === 0) found.transport = at + header;
  return true;
}

/**
 * Find an IPv6 header.
 * @param plain not behind LLC/SNAP.
 * @returns whether it and its extension headers are complete.
 */
function findIpv6(bytes: Uint8Array, start: number, end: number, plain: boolean, found: Headers): boolean {
  if (start + 40 > end || (bytes[start] ?? 0) >> 4 !== 6) return false;
  found.network = start;
  found.version = 6;
  let next = bytes[start + 6] ?? 0;
  let at = start + 40;
  let fragmented = false;
  let whole = plain;
  // Each turn moves on by at least 8 bytes, so the loop ends. A chain of headers that continues in the second
  // fragment can hide what follows (RFC 7113): it counts as incomplete.
  for (;;) {
    const fragment = next === FRAGMENT;
    const authentication = next === AUTHENTICATION;
    if (!fragment && !authentication && !EXTENSIONS.has(next)) break;
    if (at + 8 > end) {
      if (!fragmented) found.protocol = next;
      return false;
    }
    const following = bytes[at] ?? 0;
    const words = bytes[at + 1] ?? 0;
    if (fragment) {
      if (!fragmented) found.protocol = following;
      fragmented = true;
      if (readU16(bytes, at + 2) >> 3 !== 0) return true;
    }
    whole &&= !fragment && !authentication;
    at += fragment ? 8 : authentication ? (words + 2) * 4 : (words + 1) * 8;
    next = following;
  }
  found.upper = at;
  found.upperProtocol = next;
  if (!fragmented) found.protocol = next;
  if (whole && at <= end) found.transport = at;
  return true;
}

/**
 * Sum of the 16-bit big-endian words from offset `from` to `to`, for an Internet checksum (RFC 1071). An odd
 * last byte is padded with zero. The sum is not folded.
 */
export function sum16(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  let at = from;
  // No overflow: a double is exact far beyond the sum of 64 KB.
  for (; at + 1 < to; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return at < to ? sum + ((bytes[at] ?? 0) << 8) : sum;
}

/** Fold a sum to 16 bits, in one's complement arithmetic. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/**
 * Sum of the pseudo-header of TCP or UDP, folded (RFC 9293, RFC 8200).
 * @param found headers of the frame; it is IP.
 * @param length bytes of transport header and data.
 */
export function pseudoSum(bytes: Uint8Array, found: Headers, length: number): number {
  const from = found.network + (found.version === 4 ? 12 : 8);
  const addresses = sum16(bytes, from, from + (found.version === 4 ? 8 : 32));
  return fold(addresses + found.protocol + length);
}

/** Write a big-endian u16. */
export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

/** Write the checksum of an IPv4 header. @param network offset of the header. */
export function fixIpv4Checksum(bytes: Uint8Array, network: number): void {
  writeU16(bytes, network + 10, 0);
  const header = ((bytes[network] ?? 0) & 15) * 4;
  writeU16(bytes, network + 10, ~fold(sum16(bytes, network, network + header)));
}
