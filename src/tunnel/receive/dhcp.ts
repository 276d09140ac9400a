/**
 * What a node may say to a DHCP server: that it is itself. A server knows its clients by the addresses and the
 * identifiers in the message, not by the frame's: with others in it a node could take all leases, or give back
 * another one's. Pure functions over bytes that allocate no memory.
 */

import { readU16 } from "../../bytes.ts";

/** DHCP for IPv4, offsets in the message (RFC 2131, section 2). */
const HTYPE = 1;
const HLEN = 2;
const GIADDR = 24;
const CHADDR = 28;
/** Behind the fixed part of a BOOTP message: the magic cookie, then options (RFC 2132). */
const COOKIE = 236;
const OPTIONS = COOKIE + 4;
const MAGIC = [99, 130, 83, 99];
const BOOT_REQUEST = 1;
/** Hardware type: Ethernet (IANA, ARP parameters). */
const ETHERNET = 1;
/** Options: padding, end, overload (options in other fields), client identifier. */
const PAD = 0;
const END = 255;
const OVERLOAD = 52;
const CLIENT_ID = 61;
/** A client identifier of RFC 4361: its type, then four bytes of IAID, then a DUID. */
const NODE_SPECIFIC = 255;

/** DUIDs that have a link-layer address: the type, u16 hardware type, u32 time, address; and without the time (RFC 8415, section 11). */
const DUID_LLT = 1;
const DUID_LL = 3;

/** DHCPv6 (RFC 8415, section 8): u8 type, 24 bits of transaction id, options. */
const RELAY_FORWARD = 12;
const RELAY_REPLY = 13;
const V6_CLIENT_ID = 1;

/**
 * Whether a message to a DHCP server for IPv4 is a node's own.
 * @param at offset of the message in `bytes`: what follows the UDP header.
 * @param end offset behind the message.
 * @param mac the 6 bytes of the node's address.
 */
export function isOwnRequest(bytes: Uint8Array, at: number, end: number, mac: Uint8Array): boolean {
  if (end - at < COOKIE) return false;
  if (bytes[at] !== BOOT_REQUEST || bytes[at + HTYPE] !== ETHERNET || bytes[at + HLEN] !== 6) return false;
  // A relay speaks for others.
  for (let i = 0; i < 4; i++) if (bytes[at + GIADDR + i] !== 0) return false;
  if (!isMac(bytes, at + CHADDR, mac)) return false;
  if (MAGIC.some((byte, i) => bytes[at + COOKIE + i] !== byte)) return true; // BOOTP, whose options nobody reads
  for (let option = at + OPTIONS; option < end; ) {
    const code = bytes[option] ?? END;
    if (code === END) return true;
    if (code === PAD) {
      option++;
      continue;
    }
    const length = bytes[option + 1] ?? 0;
    const data = option + 2;
    if (data + length > end || code === OVERLOAD) return false;
    if (code === CLIENT_ID && !isOwnClientId(bytes, data, length, mac)) return false;
    option = data + length;
  }
  return true;
}

/** @param length bytes of the identifier; it has two at least (RFC 2132, section 9.14). */
function isOwnClientId(bytes: Uint8Array, at: number, length: number, mac: Uint8Array): boolean {
  if (length < 2) return false;
  if (bytes[at] === ETHERNET) return length === 7 && isMac(bytes, at + 1, mac);
  return bytes[at] !== NODE_SPECIFIC || isOwnDuid(bytes, at + 5, length - 5, mac);
}

/** As `isOwnRequest`, for DHCPv6. */
export function isOwnSolicitation(bytes: Uint8Array, at: number, end: number, mac: Uint8Array): boolean {
  const type = bytes[at] ?? RELAY_FORWARD;
  if (end - at < 4 || type === RELAY_FORWARD || type === RELAY_REPLY) return false;
  for (let option = at + 4; option < end; ) {
    if (option + 4 > end) return false;
    const length = readU16(bytes, option + 2);
    const data = option + 4;
    if (data + length > end) return false;
    if (readU16(bytes, option) === V6_CLIENT_ID && !isOwnDuid(bytes, data, length, mac)) return false;
    option = data + length;
  }
  return true;
}

/** Whether a DUID has no Ethernet address, or the node's. */
function isOwnDuid(bytes: Uint8Array, at: number, length: number, mac: Uint8Array): boolean {
  if (length < 2) return false;
  const type = readU16(bytes, at);
  if (type !== DUID_LLT && type !== DUID_LL) return true;
  const address = type === DUID_LLT ? 8 : 4;
  if (length < address || readU16(bytes, at + 2) !== ETHERNET) return false;
  return length === address + 6 && isMac(bytes, at + address, mac);
}

function isMac(bytes: Uint8Array, at: number, mac: Uint8Array): boolean {
  for (let i = 0; i < 6; i++) if (bytes[at + i] !== mac[i]) return false;
  return true;
}
