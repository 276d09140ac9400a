/**
 * What a node may send to walt-net: frames from its own MAC address, and nothing that plays DHCP server or router.
 * Where a header is cut off or hidden so that nobody can tell what follows, the frame is refused.
 */

import { readU16 } from "../../bytes.ts";
import { WaltError } from "../../errors.ts";

/** Why a frame is refused. */
export type Refusal = "source" | "dhcp" | "router" | "malformed";

/**
 * Frames to group addresses (broadcast and multicast) that a node may send, a second and at once. Those go to everybody, so a loop
 * behind a device, in which the node's own come round again and again, must not fill walt-net with them. Multicast of 60 Mbit/s passes.
 */
export const GROUP_FRAMES = 5000;

/** Counts a node's frames to group addresses. */
export class GroupLimit {
  #left = GROUP_FRAMES;
  #at = 0;

  /** Whether one more may pass. @param now ms. */
  allows(now: number): boolean {
    this.#left = Math.min(GROUP_FRAMES, this.#left + ((now - this.#at) * GROUP_FRAMES) / 1000);
    this.#at = now;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}

/** IEEE 802 numbers. */
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const TAGS = new Set([0x8100, 0x88a8, 0x9100, 0x9200, 0x9300]);
/** Values of the type field up to here are a length, and LLC follows (IEEE 802.3). */
const LENGTH_MAX = 1535;

/** IANA protocol numbers. */
const UDP = 17;
const ICMPV6 = 58;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** ProxyConnection-by-hop options, routing, destination options, mobility, HIP, Shim6: u8 next, u8 length in 8 bytes less one. */
const EXTENSIONS = new Set([0, 43, 60, 135, 139, 140]);

const DHCP_SERVER = 67;
const DHCP_CLIENT = 68;
const DHCPV6_SERVER = 547;
const DHCPV6_CLIENT = 546;
const ROUTER_ADVERTISEMENT = 134;

/** `52:54:00:01:02:03` as 6 bytes. @throws WaltError when it is none, or a group address. */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new WaltError(`${JSON.stringify(text)} is no MAC address`, { hint: "Such as 52:54:00:01:02:03." });
  }
  const mac = Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  if ((mac[0] ?? 0) & 1) throw new WaltError(`${text} is a group address, not one of a machine`);
  return mac;
}

/**
 * Why a frame of `length` bytes at `start` must not get onto walt-net; undefined = it may.
 * @param mac the 6 bytes of the one source address that is allowed.
 */
export function refusal(
  bytes: Uint8Array,
  start: number,
  length: number,
  mac: Uint8Array,
): Refusal | undefined {
  const end = start + length;
  if (length < 14) return "malformed";
  for (let i = 0; i < 6; i++) if (bytes[start + 6 + i] !== mac[i]) return "source";
  let at = start + 12;
  let type = readU16(bytes, at);
  at += 2;
  while (TAGS.has(type)) {
    if (at + 4 > end) return "malformed";
    type = readU16(bytes, at + 2);
    at += 4;
  }
  if (type <= LENGTH_MAX && isSnap(bytes, at, end)) {
    type = readU16(bytes, at + 6);
    at += 8;
  }
  if (type === IPV4) return refusalOfIpv4(bytes, at, end);
  if (type === IPV6) return refusalOfIpv6(bytes, at, end);
  return undefined;
}

/** LLC/SNAP with the OUI zero, which wraps an Ethernet type (RFC 1042). */
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

function refusalOfIpv4(bytes: Uint8Array, at: number, end: number): Refusal | undefined {
  const first = bytes[at] ?? 0;
  const header = (first & 15) * 4;
  if (at + 20 > end || first >> 4 !== 4 || header < 20 || at + header > end) return "malformed";
  // A later fragment has no ports; without its first one, which is looked at, nobody puts it together.
  if ((readU16(bytes, at + 6) & 0x1fff) !== 0) return undefined;
  if (bytes[at + 9] !== UDP) return undefined;
  return refusalOfUdp(bytes, at + header, end, DHCP_SERVER, DHCP_CLIENT);
}

function refusalOfIpv6(bytes: Uint8Array, start: number, end: number): Refusal | undefined {
  if (start + 40 > end || (bytes[start] ?? 0) >> 4 !== 6) return "malformed";
  let next = bytes[start + 6] ?? 0;
  let at = start + 40;
  // Each turn moves on by at least 8 bytes. A chain that goes on in a second fragment is a way to hide (RFC 7113): refused.
  for (;;) {
    if (next === UDP) return refusalOfUdp(bytes, at, end, DHCPV6_SERVER, DHCPV6_CLIENT);
    if (next === ICMPV6) {
      if (at >= end) return "malformed";
      return bytes[at] === ROUTER_ADVERTISEMENT ? "router" : undefined;
    }
    const fragment = next === FRAGMENT;
    if (!fragment && next !== AUTHENTICATION && !EXTENSIONS.has(next)) return undefined;
    if (at + 8 > end) return "malformed";
    if (fragment && readU16(bytes, at + 2) >> 3 !== 0) return undefined;
    const words = bytes[at + 1] ?? 0;
    const size = fragment ? 8 : next === AUTHENTICATION ? (words + 2) * 4 : (words + 1) * 8;
    next = bytes[at] ?? 0;
    at += size;
  }
}

function refusalOfUdp(
  bytes: Uint8Array,
  at: number,
  end: number,
  server: number,
  client: number,
): Refusal | undefined {
  if (at + 4 > end) return "malformed";
  // To a client's port whatever port it comes from: not every client looks at the latter.
  return readU16(bytes, at) === server || readU16(bytes, at + 2) === client ? "dhcp" : undefined;
}
