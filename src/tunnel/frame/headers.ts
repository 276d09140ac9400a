/**
 * Where the headers of an Ethernet frame are: the one parser for everything that looks into frames, the guard included. Pure
 * functions over bytes, without allocation.
 */

import { readU16 } from "../../bytes.ts";

/** EtherTypes (IEEE 802 numbers). */
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
/** VLAN tags: 802.1Q, 802.1ad, and three numbers that were in use before 802.1ad. */
const TAGS = new Set([0x8100, 0x88a8, 0x9100, 0x9200, 0x9300]);
/** Tags that are looked through; a frame with more is not complete. Real ones have two at most. */
const TAGS_MAX = 4;
/** Values of the type field up to here are a length, and LLC follows (IEEE 802.3). */
const LENGTH_MAX = 1535;

/** IANA protocol numbers. */
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** Hop-by-hop options, routing, destination options, mobility, HIP, Shim6: u8 next, u8 length in units of 8 bytes less one. */
const EXTENSIONS = new Set([0, 43, 60, 135, 139, 140]);

/** What was found of one frame. Offsets in bytes into the memory that holds it; -1 = there is none. */
export class Headers {
  /** Of the IP header. */
  network = -1;
  /** 4 or 6; 0 = no IP. */
  version = 0;
  /** IP protocol; in a fragment, of what is fragmented, the same in all fragments of a datagram. 0 without IP. */
  protocol = 0;
  /**
   * Of the transport header, where the kernel would find it too: -1 in any fragment, behind an authentication header, and in
   * an LLC/SNAP frame.
   */
  transport = -1;
  /** Of what follows IP and all its extensions, wherever that is, and its protocol; -1 in fragments but the first. */
  upper = -1;
  upperProtocol = 0;
  /** The last VLAN tag's 16 bits; 0 without. */
  vlan = 0;
  /** False: a header is cut off, malformed or hidden, so that nobody can tell what the frame is. */
  complete = true;
}

/** Find the headers of the frame from `start` to `end`, as far as they are there. */
export function findHeaders(bytes: Uint8Array, start: number, end: number, found: Headers): void {
  found.network = found.transport = found.upper = -1;
  found.version = found.protocol = found.upperProtocol = found.vlan = 0;
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
  if (type === IPV4) found.complete = findIpv4(bytes, at, end, plain, found);
  else if (type === IPV6) found.complete = findIpv6(bytes, at, end, plain, found);
}

/** LLC/SNAP with the OUI zero, which wraps an EtherType (RFC 1042). */
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

/** @returns whether the header is complete. */
function findIpv4(bytes: Uint8Array, at: number, end: number, plain: boolean, found: Headers): boolean {
  const first = bytes[at] ?? 0;
  const header = (first & 15) * 4;
  if (at + 20 > end || first >> 4 !== 4 || header < 20 || at + header > end) return false;
  found.network = at;
  found.version = 4;
  found.protocol = found.upperProtocol = bytes[at + 9] ?? 0;
  const fragment = readU16(bytes, at + 6);
  // An offset: a later fragment. "More fragments" alone: the first one, which has the transport header but not all it covers.
  if ((fragment & 0x1fff) === 0) found.upper = at + header;
  if (plain && (fragment & 0x3fff) === 0) found.transport = at + header;
  return true;
}

/** @returns whether the header and the chain of its extensions are complete. */
function findIpv6(bytes: Uint8Array, start: number, end: number, plain: boolean, found: Headers): boolean {
  if (start + 40 > end || (bytes[start] ?? 0) >> 4 !== 6) return false;
  found.network = start;
  found.version = 6;
  let next = bytes[start + 6] ?? 0;
  let at = start + 40;
  let fragmented = false;
  let whole = plain;
  // Each turn moves on by at least 8 bytes. A chain that goes on in a second fragment is a way to hide (RFC 7113): incomplete.
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

/** The sum of 16-bit big-endian words from `from` to `to`, an odd last byte padded with zero; not folded (RFC 1071). */
export function sum16(bytes: Uint8Array, from: number, to: number): number {
  let sum = 0;
  let at = from;
  // Doubles count exactly far beyond 64 KB of words.
  for (; at + 1 < to; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return at < to ? sum + ((bytes[at] ?? 0) << 8) : sum;
}

/** One's complement sum folded to 16 bits. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

/** Folded sum of the pseudo-header of TCP or UDP, with `length` bytes of transport header and data (RFC 9293, RFC 8200). */
export function pseudoSum(bytes: Uint8Array, found: Headers, length: number): number {
  const from = found.network + (found.version === 4 ? 12 : 8);
  const addresses = sum16(bytes, from, from + (found.version === 4 ? 8 : 32));
  return fold(addresses + found.protocol + length);
}

export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

/** Put an IPv4 header's own checksum right. */
export function fixIpv4Checksum(bytes: Uint8Array, network: number): void {
  writeU16(bytes, network + 10, 0);
  const header = ((bytes[network] ?? 0) & 15) * 4;
  writeU16(bytes, network + 10, ~fold(sum16(bytes, network, network + header)));
}
