/**
 * Which flow a frame belongs to: a number for the fair queue. Frames that must stay in order (those of one
 * connection, all fragments of one datagram) have the same number.
 */

import { readU16, readU32 } from "../../bytes.ts";
import { findHeaders, Headers, ICMP, ICMPV6, TCP, UDP } from "./headers.ts";

/** Flows of a queue; their numbers are 0 to FLOWS - 1. */
export const FLOWS = 256;
/**
 * The first flows are kept for what other traffic depends on: ARP, DHCP, DNS, NTP, ICMP and everything that
 * is not IP. So it never shares a queue with bulk traffic.
 */
export const EXPRESS = 32;

const found = new Headers();

/** Ports of UDP (IANA): DNS, DHCP server and client, NTP, DHCPv6 client and server. */
const isService = (port: number): boolean =>
  port === 53 || port === 67 || port === 68 || port === 123 || port === 546 || port === 547;

/**
 * The flow of a frame: a hash of VLAN, addresses, protocol and ports, as far as the frame has them.
 * @param start offset of its Ethernet header in `bytes`.
 * @param end offset behind its last byte.
 * @param salt a random number, so that nobody can choose ports that collide with the flow of another.
 * @returns 0 to FLOWS - 1.
 */
export function flowOf(bytes: Uint8Array, start: number, end: number, salt: number): number {
  findHeaders(bytes, start, end, found);
  const { network, version, protocol, transport } = found;
  let hash = mix(salt, (found.vlan << 8) | protocol);
  if (network < 0) {
    // Not IP: by the destination and source MAC addresses.
    for (let i = 0; i < 12; i += 4) hash = mix(hash, readU32(bytes, start + i));
    return finish(hash) % EXPRESS;
  }
  const from = network + (version === 4 ? 12 : 8);
  const to = from + (version === 4 ? 8 : 32);
  for (let i = from; i < to; i += 4) hash = mix(hash, readU32(bytes, i));
  let express = protocol === ICMP || protocol === ICMPV6;
  if ((protocol === TCP || protocol === UDP) && transport >= 0 && transport + 4 <= end) {
    hash = mix(hash, readU32(bytes, transport));
    if (protocol === UDP)
      express = isService(readU16(bytes, transport)) || isService(readU16(bytes, transport + 2));
  }
  return express ? finish(hash) % EXPRESS : EXPRESS + (finish(hash) % (FLOWS - EXPRESS));
}

/** One step of MurmurHash3 (32 bits). */
function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64;
}

/** The end of MurmurHash3 (32 bits). @returns an unsigned number. */
function finish(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
