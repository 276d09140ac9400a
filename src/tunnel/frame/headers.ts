import { readU16 } from "../../bytes.ts";
/** Where the headers of an Ethernet frame are. Pure functions over bytes, without allocation. */

/** IEEE 802 numbers. */
export const IPV4 = 0x0800;
export const IPV6 = 0x86dd;
/** IANA protocol numbers. */
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMPV6 = 58;
const FRAGMENT = 44;
/** ProxyConnection-by-hop options, routing, destination options, mobility, HIP, Shim6: u8 next, u8 length in 8 bytes less one. */
const isExtension = (next: number): boolean =>
  next === 0 || next === 43 || next === 60 || next === 135 || next === 139 || next === 140;

/** What was found of one frame. Offsets in bytes into the memory that holds it; -1 = there is none. */
export class Headers {
  /** Of the IP header. */
  network = -1;
  /** 4 or 6; 0 = no IP. */
  version = 0;
  /** IP protocol, 0 unless `network` is there. */
  protocol = 0;
  /** Of what follows the IP header and its extensions; -1 in any fragment. */
  transport = -1;
  /** The last VLAN tag's 16 bits; 0 without. */
  vlan = 0;
}

/** Look through up to four VLAN tags at the frame from `start` to `end`. What is cut off is not found. */
export function findHeaders(bytes: Uint8Array, start: number, end: number, found: Headers): void {
  found.network = found.transport = -1;
  found.version = found.protocol = found.vlan = 0;
  let at = start + 12;
  let type = readU16(bytes, at);
  at += 2;
  for (let tags = 0; tags < 4 && (type === 0x8100 || type === 0x88a8 || type === 0x9100); tags++) {
    if (at + 4 > end) return;
    found.vlan = readU16(bytes, at);
    type = readU16(bytes, at + 2);
    at += 4;
  }
  if (type === IPV4) findIpv4(bytes, at, end, found);
  else if (type === IPV6) findIpv6(bytes, at, end, found);
}

function findIpv4(bytes: Uint8Array, at: number, end: number, found: Headers): void {
  const first = bytes[at] ?? 0;
  const header = (first & 15) * 4;
  if (at + 20 > end || first >> 4 !== 4 || header < 20 || at + header > end) return;
  found.network = at;
  found.version = 4;
  found.protocol = bytes[at + 9] ?? 0;
  // "More fragments" or an offset: without the whole there is no transport header to speak of.
  if ((readU16(bytes, at + 6) & 0x3fff) === 0) found.transport = at + header;
}

function findIpv6(bytes: Uint8Array, start: number, end: number, found: Headers): void {
  if (start + 40 > end || (bytes[start] ?? 0) >> 4 !== 6) return;
  found.network = start;
  found.version = 6;
  let next = bytes[start + 6] ?? 0;
  let at = start + 40;
  while (isExtension(next)) {
    if (at + 8 > end) return;
    next = bytes[at] ?? 0;
    at += ((bytes[at + 1] ?? 0) + 1) * 8;
  }
  // In a fragment, the protocol of what is fragmented.
  found.protocol = next === FRAGMENT && at + 8 <= end ? (bytes[at] ?? 0) : next;
  if (next !== FRAGMENT && at <= end) found.transport = at;
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
