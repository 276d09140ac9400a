/**
 * The guard: which frames a node may send to walt-net. They must come from the node's own MAC address, and
 * must not be those of a DHCP server or a router, nor those of a DHCP client with another address (dhcp.ts). A
 * frame is refused, too, if a header is cut off or hidden, as nobody can tell what follows. Where the node's
 * IPv4 address is known and the guard is told, it must speak from that one alone (address.ts).
 */

import { readU16 } from "../../bytes.ts";
import { WaltError } from "../../errors.ts";
import { findHeaders, Headers, ICMPV6, UDP } from "../frame/headers.ts";
import { isOwnAddress, parseIpv4 } from "./address.ts";
import { isOwnRequest, isOwnSolicitation } from "./dhcp.ts";

/**
 * Why a frame is refused: another source address, from a DHCP server or to a DHCP client, a request to a DHCP
 * server that is not the node's own, another IP address, a VLAN that is not allowed, a router advertisement, a frame of switches among themselves, or headers that are cut off or hidden.
 */
export type Refusal = "source" | "vlan" | "address" | "dhcp" | "router" | "control" | "malformed";

/**
 * Frames to group addresses (broadcast and multicast), and bytes of these, that a node may send per second, and
 * at once after a pause. Everybody on walt-net gets these frames. If there is a loop behind a device, the node's
 * own frames come round again and again, and must not fill walt-net. The limit lets multicast of 60 Mbit/s pass.
 */
export const GROUP_FRAMES = 5000;
export const GROUP_BYTES = 7_500_000;

/** Limits what a node sends to group addresses: token buckets of GROUP_FRAMES and GROUP_BYTES. */
export class GroupLimit {
  /** Frames and bytes that may still pass. */
  #frames = GROUP_FRAMES;
  #bytes = GROUP_BYTES;
  /** When both were computed, ms. */
  #at = 0;

  /**
   * Whether so much more may pass; if so, it is counted.
   * @param frames on the network: a super-frame counts as the segments that the kernel makes of it.
   * @param now ms.
   */
  allows(frames: number, bytes: number, now: number): boolean {
    const share = (now - this.#at) / 1000;
    this.#frames = Math.min(GROUP_FRAMES, this.#frames + share * GROUP_FRAMES);
    this.#bytes = Math.min(GROUP_BYTES, this.#bytes + share * GROUP_BYTES);
    this.#at = now;
    if (this.#frames < frames || this.#bytes < bytes) return false;
    this.#frames -= frames;
    this.#bytes -= bytes;
    return true;
  }
}

/** Ports of UDP (RFC 2131, RFC 8415). */
const DHCP_SERVER = 67;
const DHCP_CLIENT = 68;
const DHCPV6_SERVER = 547;
const DHCPV6_CLIENT = 546;
/** Type of ICMPv6 (RFC 4861). */
const ROUTER_ADVERTISEMENT = 134;

/**
 * The 6 bytes of a MAC address such as `52:54:00:01:02:03`.
 * @throws WaltError when the text is not a MAC address, or is a group address.
 */
export function parseMac(text: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    throw new WaltError(`${JSON.stringify(text)} is not a MAC address`, {
      hint: "Write it as six bytes in hexadecimal, such as 52:54:00:01:02:03.",
    });
  }
  const mac = Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  if ((mac[0] ?? 0) & 1) {
    throw new WaltError(`${text} is a group address (broadcast or multicast)`, {
      hint: "Use the address of one machine: its first byte is even.",
    });
  }
  return mac;
}

/** What a node may send, as it is told. */
export interface GuardRules {
  /** The only source MAC address, such as 52:54:00:01:02:03. */
  readonly mac: string;
  /** The only IPv4 address, such as 192.168.192.7; undefined: any. */
  readonly address?: string | undefined;
  /** Numbers of the VLANs whose tags frames may have, 1 to 4094. */
  readonly vlans?: readonly number[] | undefined;
}

/** The same as bytes. */
export interface Guard {
  readonly mac: Uint8Array;
  readonly address: Uint8Array | undefined;
  readonly vlans: ReadonlySet<number>;
}

/** @throws WaltError when an address is none. */
export function parseGuard({ mac, address, vlans = [] }: GuardRules): Guard {
  return {
    mac: parseMac(mac),
    address: address === undefined ? undefined : parseIpv4(address),
    vlans: new Set(vlans),
  };
}

/** MAC control: PAUSE frames (IEEE 802.3 annex 31B). */
const MAC_CONTROL = 0x8808;
/** VLAN tag (IEEE 802.1Q). */
const DOT1Q = 0x8100;
/** The first five bytes of the addresses that bridges and switches use among themselves. */
const BRIDGES = [0x01, 0x80, 0xc2, 0x00, 0x00];
const CISCO = [0x01, 0x00, 0x0c, 0xcc, 0xcc];

const found = new Headers();

/**
 * Decide whether a frame may enter walt-net.
 * @param start offset of the frame in `bytes`.
 * @param length bytes of the frame.
 * @param segments frames that the kernel makes of this one: of all but the first only the headers are known.
 * @returns why it is refused; undefined = it may pass.
 */
export function refusal(
  bytes: Uint8Array,
  start: number,
  length: number,
  guard: Guard,
  segments = 1,
): Refusal | undefined {
  const { mac, address, vlans } = guard;
  const end = start + length;
  findHeaders(bytes, start, end, found);
  if (length < 14) return "malformed";
  for (let i = 0; i < 6; i++) if (bytes[start + 6 + i] !== mac[i]) return "source";
  if (isControl(bytes, start) || found.type === MAC_CONTROL) return "control";
  if (!found.complete) return "malformed";
  const why = refusalOfIp(bytes, end, mac, segments);
  if (why !== undefined) return why;
  if (found.tags > 0 && !(isTagged(bytes, start) && vlans.has(found.vlan & 0xfff))) return "vlan";
  if (address !== undefined && !isOwnAddress(bytes, end, found, mac, address)) return "address";
  return undefined;
}

/** What speaks against the packet in `found`. */
function refusalOfIp(bytes: Uint8Array, end: number, mac: Uint8Array, segments: number): Refusal | undefined {
  // A fragment but the first has no ports. It may pass: no machine can reassemble the datagram without the
  // first fragment, and that one is checked.
  const { upper, upperProtocol, version } = found;
  if (upper < 0) return undefined;
  if (upperProtocol === UDP) return refusalOfUdp(bytes, end, mac, segments);
  if (version !== 6 || upperProtocol !== ICMPV6) return undefined;
  if (upper >= end) return "malformed";
  return bytes[upper] === ROUTER_ADVERTISEMENT ? "router" : undefined;
}

/** Whether a frame has one tag, of 802.1Q. */
function isTagged(bytes: Uint8Array, start: number): boolean {
  return found.tags === 1 && readU16(bytes, start + 12) === DOT1Q;
}

/**
 * Whether a frame speaks to the network's own machines: spanning tree, LLDP, GVRP and MVRP (01:80:c2:00:00:00 to 2f, IEEE 802.1D
 * and 802.1Q), Cisco's CDP, VTP and PVST+ (01:00:0c:cc:cc:cc and :cd), PAUSE. A node must not become a switch.
 */
function isControl(bytes: Uint8Array, start: number): boolean {
  if (readU16(bytes, start + 12) === MAC_CONTROL) return true;
  const last = bytes[start + 5] ?? 0;
  if (BRIDGES.every((byte, i) => bytes[start + i] === byte)) return last <= 0x2f;
  return CISCO.every((byte, i) => bytes[start + i] === byte) && last >= 0xc0 && last <= 0xcf;
}

/** The datagram at `found.upper`. */
function refusalOfUdp(
  bytes: Uint8Array,
  end: number,
  mac: Uint8Array,
  segments: number,
): Refusal | undefined {
  const { upper, transport, version } = found;
  if (upper + 4 > end) return "malformed";
  const [from, to] = [readU16(bytes, upper), readU16(bytes, upper + 2)];
  const [server, client] = version === 4 ? [DHCP_SERVER, DHCP_CLIENT] : [DHCPV6_SERVER, DHCPV6_CLIENT];
  // Refuse frames to a client's port whatever their source port is: not every client checks that.
  if (from === server || to === client) return "dhcp";
  if (to !== server) return undefined;
  // A fragment, or a super-frame, has parts that are not looked at: no client sends such.
  if (transport !== upper || segments > 1) return "dhcp";
  const message = upper + 8;
  const last = Math.min(end, upper + readU16(bytes, upper + 4));
  const own = version === 4 ? isOwnRequest : isOwnSolicitation;
  return own(bytes, message, last, mac) ? undefined : "dhcp";
}
