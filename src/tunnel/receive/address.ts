/**
 * Whether a node speaks from its own address: its IPv4 address, and for IPv6 the link-local one that follows from
 * its MAC address (there are no other IPv6 addresses on a walt-net that this server manages). Pure functions over
 * bytes that allocate no memory.
 */

import { readU16 } from "../../bytes.ts";
import { WaltError } from "../../errors.ts";
import { type Headers, ICMPV6, UDP } from "../frame/headers.ts";

/** EtherTypes. */
const ARP = 0x0806;
const RARP = 0x8035;
/** ARP (RFC 826): u16 hardware type, u16 protocol, u8 lengths of both addresses, u16 operation, the sender's two, the target's two. */
const ARP_LENGTH = 28;
const ETHERNET = 1;
const IPV4 = 0x0800;
/** UDP port of a DHCP server, to which a node speaks before it has an address. */
const DHCP_SERVER = 67;
/** Messages of neighbour discovery (RFC 4861), and where their options begin. */
const OPTIONS_AT: ReadonlyMap<number, number> = new Map([
  [133, 8], // router solicitation
  [135, 24], // neighbour solicitation
  [136, 24], // neighbour advertisement
]);
const NEIGHBOUR_ADVERTISEMENT = 136;
/** Other messages of discovery, which nodes have no use for: redirect, and inverse discovery (RFC 3122). */
const NOT_FOR_NODES = new Set([137, 141, 142]);
/** Options with a link-layer address: source, target. */
const LINK_LAYER = new Set([1, 2]);

/** The 4 bytes of an IPv4 address. @throws WaltError when it is none. */
export function parseIpv4(text: string): Uint8Array {
  const parts = text.split(".");
  const bytes = Uint8Array.from(parts, Number);
  if (parts.length !== 4 || parts.some((part, i) => part !== String(bytes[i])))
    throw new WaltError(`${JSON.stringify(text)} is not an IPv4 address`);
  return bytes;
}

/**
 * Whether a frame that is complete has no IP address of another machine where its sender tells its own.
 * @param end offset behind the frame. @param found its headers.
 * @param mac the node's MAC address. @param own its IPv4 address.
 */
export function isOwnAddress(
  bytes: Uint8Array,
  end: number,
  found: Headers,
  mac: Uint8Array,
  own: Uint8Array,
): boolean {
  const { network, version, type, payload } = found;
  if (type === ARP) return isOwnArp(bytes, payload, end, mac, own);
  if (type === RARP) return false;
  if (version === 4) {
    const source = network + 12;
    return isSame(bytes, source, own) || (isZero(bytes, source, 4) && isToDhcp(bytes, found));
  }
  return version !== 6 || isOwnIpv6(bytes, end, found, mac);
}

function isOwnArp(bytes: Uint8Array, at: number, end: number, mac: Uint8Array, own: Uint8Array): boolean {
  if (at + ARP_LENGTH > end) return false;
  if (readU16(bytes, at) !== ETHERNET || readU16(bytes, at + 2) !== IPV4) return false;
  if (bytes[at + 4] !== 6 || bytes[at + 5] !== 4 || !isSame(bytes, at + 8, mac)) return false;
  // 0.0.0.0: it asks whether anybody has the address that it wants (RFC 5227).
  return isSame(bytes, at + 14, own) || isZero(bytes, at + 14, 4);
}

function isToDhcp(bytes: Uint8Array, { upper, upperProtocol }: Headers): boolean {
  return upper >= 0 && upperProtocol === UDP && readU16(bytes, upper + 2) === DHCP_SERVER;
}

function isOwnIpv6(bytes: Uint8Array, end: number, found: Headers, mac: Uint8Array): boolean {
  const { network, upper, upperProtocol } = found;
  const source = network + 8;
  // "::": it asks whether anybody has its address, or for a router.
  if (!isLinkLocal(bytes, source, mac) && !isZero(bytes, source, 16)) return false;
  // Neighbour discovery is never fragmented (RFC 6980).
  if (upperProtocol !== ICMPV6) return true;
  if (upper < 0 || found.transport !== upper) return false;
  const type = bytes[upper] ?? 0;
  if (NOT_FOR_NODES.has(type)) return false;
  const options = OPTIONS_AT.get(type);
  if (options === undefined) return true;
  if (upper + options > end) return false;
  if (type === NEIGHBOUR_ADVERTISEMENT && !isLinkLocal(bytes, upper + 8, mac)) return false;
  for (let at = upper + options; at < end; ) {
    const length = (bytes[at + 1] ?? 0) * 8;
    if (length === 0 || at + length > end) return isPadding(bytes, at, end, network);
    if (LINK_LAYER.has(bytes[at] ?? 0) && !isSame(bytes, at + 2, mac)) return false;
    at += length;
  }
  return true;
}

/** Whether the rest lies behind the IPv6 packet: padding of a short Ethernet frame. */
function isPadding(bytes: Uint8Array, at: number, end: number, network: number): boolean {
  return at < end && at >= network + 40 + readU16(bytes, network + 4);
}

/** fe80::/64 with the modified EUI-64 of the MAC address (RFC 4291, appendix A). */
function isLinkLocal(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  if (readU16(bytes, at) !== 0xfe80 || !isZero(bytes, at + 2, 6)) return false;
  if (bytes[at + 8] !== ((mac[0] ?? 0) ^ 2) || bytes[at + 11] !== 0xff || bytes[at + 12] !== 0xfe)
    return false;
  for (const [from, to] of [
    [1, 9],
    [2, 10],
    [3, 13],
    [4, 14],
    [5, 15],
  ] as const)
    if (bytes[at + to] !== mac[from]) return false;
  return true;
}

function isSame(bytes: Uint8Array, at: number, own: Uint8Array): boolean {
  for (let i = 0; i < own.length; i++) if (bytes[at + i] !== own[i]) return false;
  return true;
}

function isZero(bytes: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (bytes[at + i] !== 0) return false;
  return true;
}
