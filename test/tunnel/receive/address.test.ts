/** The guard on addresses: from which IP addresses a node may speak. */

import { describe, expect, test } from "bun:test";
import { parseIpv4 } from "../../../src/tunnel/receive/address.ts";
import { parseGuard, parseMac, refusal } from "../../../src/tunnel/receive/guard.ts";
import { frame } from "../rig.ts";

const NODE = "d6:54:00:01:02:03";
const MAC = [...parseMac(NODE)];
const OTHER_MAC = [0xd6, 0x54, 0, 9, 9, 9];
const OWN = [192, 168, 192, 7];
const OTHER = [192, 168, 192, 8];
const ZERO = [0, 0, 0, 0];
const GUARD = parseGuard({ mac: NODE, address: OWN.join("."), vlans: [5] });
const LINK_LOCAL = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xd4, 0x54, 0, 0xff, 0xfe, 1, 2, 3];
const OTHER_LOCAL = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0xd4, 0x54, 0, 0xff, 0xfe, 9, 9, 9];
const UNSPECIFIED = Array<number>(16).fill(0);
const GLOBAL = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, ...LINK_LOCAL.slice(8)];

const u16 = (n: number): number[] => [n >> 8, n & 255];
const arp = (mac: readonly number[], ip: readonly number[], op = 1): number[] => [
  ...[0x08, 0x06, 0, 1, 8, 0, 6, 4, ...u16(op), ...mac, ...ip, 0, 0, 0, 0, 0, 0, ...OTHER],
];
const ipv4 = (
  source: readonly number[],
  protocol: number,
  payload: readonly number[],
  fragment = 0,
): number[] => [
  ...[0x08, 0, 0x45, 0, ...u16(20 + payload.length), 0, 1, ...u16(fragment), 64, protocol, 0, 0],
  ...[...source, 10, 0, 0, 1, ...payload],
];
const ipv6 = (source: readonly number[], next: number, payload: readonly number[]): number[] => [
  ...[0x86, 0xdd, 0x60, 0, 0, 0, ...u16(payload.length), next, 255, ...source],
  ...[0xff, 2, ...Array<number>(13).fill(0), 1, ...payload],
];
const tcp = [...u16(1000), ...u16(80), ...Array<number>(16).fill(0)];
const udp = (to: number): number[] => [...u16(68), ...u16(to), 0, 8, 0, 0];
const dhcp = [
  ...[...u16(68), ...u16(67), ...u16(8 + 244), 0, 0, 1, 1, 6, 0, 1, 2, 3, 4, ...Array<number>(20).fill(0)],
  ...[...MAC, ...Array<number>(236 - 34).fill(0), 99, 130, 83, 99, 53, 1, 1, 255],
];
const option = (type: number, mac: readonly number[]): number[] => [type, 1, ...mac];
const solicitation = (...options: number[]): number[] => [
  135,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  ...OTHER_LOCAL,
  ...options,
];
const advertisement = (target: readonly number[], ...options: number[]): number[] => [
  ...[136, 0, 0, 0, 0x60, 0, 0, 0, ...target, ...options],
];

function verdict(rest: readonly number[]): string {
  const bytes = frame(NODE, rest);
  const padded = new Uint8Array(bytes.length + 64).fill(0xd6);
  padded.set(bytes, 32);
  const inside = refusal(padded, 32, bytes.length, GUARD) ?? "passes";
  expect(refusal(bytes, 0, bytes.length, GUARD) ?? "passes").toBe(inside);
  return inside;
}

describe("what passes", () => {
  const may: Record<string, number[]> = {
    "an ARP request from the own address": arp(MAC, OWN),
    "an ARP reply": arp(MAC, OWN, 2),
    "an ARP probe": arp(MAC, ZERO),
    "TCP from the own address": ipv4(OWN, 6, tcp),
    "a later fragment from the own address": ipv4(OWN, 6, tcp, 185),
    "the same in a VLAN": [0x81, 0, 0, 5, ...ipv4(OWN, 6, tcp)],
    "a DHCP request without an address": ipv4(ZERO, 17, dhcp),
    "a renewal": ipv4(OWN, 17, dhcp),
    "IPv6 from the link-local address": ipv6(LINK_LOCAL, 6, tcp),
    "the question whether it is free": ipv6(UNSPECIFIED, 58, solicitation()),
    "a neighbour solicitation": ipv6(LINK_LOCAL, 58, solicitation(...option(1, MAC))),
    "a neighbour advertisement": ipv6(LINK_LOCAL, 58, advertisement(LINK_LOCAL, ...option(2, MAC))),
    "a router solicitation": ipv6(LINK_LOCAL, 58, [133, 0, 0, 0, 0, 0, 0, 0, ...option(1, MAC)]),
    "a ping of IPv6": ipv6(LINK_LOCAL, 58, [128, 0, 0, 0, 0, 1, 0, 1]),
    "what is no IP": [0x88, 0xb5, 1, 2, 3],
  };
  for (const [name, rest] of Object.entries(may)) test(name, () => expect(verdict(rest)).toBe("passes"));

  test("discovery with padding behind it", () => {
    expect(verdict([...ipv6(LINK_LOCAL, 58, solicitation()), 0, 0, 0])).toBe("passes");
  });
});

describe("what is refused", () => {
  const not: Record<string, number[]> = {
    "an ARP request from another address": arp(MAC, OTHER),
    "an ARP reply for another address": arp(MAC, OTHER, 2),
    "an ARP reply with another MAC address": arp(OTHER_MAC, OWN, 2),
    "an ARP message that is cut off": arp(MAC, OWN).slice(0, 20),
    "ARP of another network": [
      0x08,
      0x06,
      0,
      6,
      8,
      0,
      6,
      4,
      0,
      1,
      ...MAC,
      ...OWN,
      0,
      0,
      0,
      0,
      0,
      0,
      ...OTHER,
    ],
    "ARP of longer addresses": [
      0x08,
      0x06,
      0,
      1,
      8,
      0,
      8,
      4,
      0,
      1,
      ...MAC,
      ...OWN,
      0,
      0,
      0,
      0,
      0,
      0,
      ...OTHER,
    ],
    "the same in LLC/SNAP": [0, 40, 0xaa, 0xaa, 3, 0, 0, 0, ...arp(MAC, OTHER)],
    "the same in a VLAN": [0x81, 0, 0, 5, ...arp(MAC, OTHER)],
    RARP: [0x80, 0x35, ...arp(MAC, OWN).slice(2)],
    "TCP from another address": ipv4(OTHER, 6, tcp),
    "a later fragment from another address": ipv4(OTHER, 6, tcp, 185),
    "UDP without an address": ipv4(ZERO, 17, udp(53)),
    "a later fragment without an address": ipv4(ZERO, 17, udp(67), 185),
    "IPv6 from another link-local address": ipv6(OTHER_LOCAL, 6, tcp),
    "IPv6 from a global address": ipv6(GLOBAL, 6, tcp),
    "a neighbour advertisement of another address": ipv6(LINK_LOCAL, 58, advertisement(OTHER_LOCAL)),
    "one with another MAC address": ipv6(LINK_LOCAL, 58, advertisement(LINK_LOCAL, ...option(2, OTHER_MAC))),
    "one whose second option is another MAC address": ipv6(
      LINK_LOCAL,
      58,
      advertisement(LINK_LOCAL, ...option(2, MAC), ...option(2, OTHER_MAC)),
    ),
    "one with an option of no length": ipv6(
      LINK_LOCAL,
      58,
      advertisement(LINK_LOCAL, 2, 0, 0, 0, 0, 0, 0, 0),
    ),
    "one whose option is cut off": ipv6(LINK_LOCAL, 58, advertisement(LINK_LOCAL, 2, 4, ...MAC)),
    "one in fragments": ipv6(LINK_LOCAL, 44, [58, 0, 0, 1, 0, 0, 0, 9, ...advertisement(LINK_LOCAL)]),
    "a solicitation with another MAC address": ipv6(LINK_LOCAL, 58, solicitation(...option(1, OTHER_MAC))),
    "a redirect": ipv6(LINK_LOCAL, 58, [137, 0, 0, 0, 0, 0, 0, 0, ...OTHER_LOCAL, ...OTHER_LOCAL]),
  };
  for (const [name, rest] of Object.entries(not)) test(name, () => expect(verdict(rest)).toBe("address"));
});

test("without an address in the guard all of them pass", () => {
  const bytes = frame(NODE, arp(OTHER_MAC, OTHER, 2));
  expect(refusal(bytes, 0, bytes.length, parseGuard({ mac: NODE }))).toBeUndefined();
});

test("IPv4 addresses", () => {
  expect([...parseIpv4("192.168.0.255")]).toEqual([192, 168, 0, 255]);
  for (const bad of ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.x", "1..3.4"])
    expect(() => parseIpv4(bad)).toThrow("not an IPv4 address");
});
