/** Which flow a frame belongs to: a number for the fair queue, the same for all frames that must stay in order. */

import { readU16, readU32 } from "../../bytes.ts";
import { findHeaders, Headers, ICMP, ICMPV6, TCP, UDP } from "../frame/headers.ts";

/** Flows of a queue. The first EXPRESS are kept for what makes others wait: ARP, DHCP, DNS, NTP, ICMP and what is no IP. */
export const FLOWS = 256;
export const EXPRESS = 32;

const found = new Headers();

const isService = (port: number): boolean =>
  port === 53 || port === 67 || port === 68 || port === 123 || port === 546 || port === 547;

/** @param salt a number by chance, so that nobody can aim at another one's flow. */
export function flowOf(bytes: Uint8Array, start: number, end: number, salt: number): number {
  findHeaders(bytes, start, end, found);
  const { network, version, protocol, transport } = found;
  let hash = mix(salt, (found.vlan << 8) | protocol);
  if (network < 0) {
    // By destination and source address.
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

/** MurmurHash3's step and end, 32 bits. */
function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64;
}

function finish(hash: number): number {
  let h = hash ^ (hash >>> 16);
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
