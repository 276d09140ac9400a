/**
 * The guard under fuzz: requests to a DHCP server, damaged. An oracle of its own reads each message as a server
 * does, and lists the MAC addresses that it names. The guard must let no message pass that names another one.
 */

import { expect } from "bun:test";
import { parseGuard, parseMac, refusal } from "../../../src/tunnel/receive/guard.ts";
import { mac } from "../../tunnel/rig.ts";
import { damage, fuzz, oneOf, type Random, someBytes } from "../fuzz.ts";

const NODE = "d6:01:02:03:04:05";
const OWN = parseMac(NODE);
const GUARD = parseGuard({ mac: NODE });
const OTHER = mac("d6:01:02:0a:0b:0c");
const EVERYBODY = mac("ff:ff:ff:ff:ff:ff");

const u16 = (n: number): number[] => [n >> 8, n & 255];
const repeat = (n: number, byte = 0): number[] => Array<number>(n).fill(byte);

/** A frame with a UDP datagram over IPv4 or IPv6. `message` is what UDP carries. */
function frameOf(version: 4 | 6, from: number, to: number, message: readonly number[]): Buffer {
  const udp = [...u16(from), ...u16(to), ...u16(8 + message.length), 0, 0, ...message];
  const ip =
    version === 4
      ? [
          ...[8, 0, 0x45, 0, ...u16(20 + udp.length), 0, 1, 0, 0, 64, 17, 0, 0],
          ...repeat(4),
          ...repeat(4, 255),
        ]
      : [...[0x86, 0xdd, 0x60, 0, 0, 0, ...u16(udp.length), 17, 1], ...repeat(16, 0xfe), ...repeat(16, 0xff)];
  return Buffer.from([...EVERYBODY, ...OWN, ...ip, ...udp]);
}

const option = (code: number, ...data: number[]): number[] => [code, data.length, ...data];
const option6 = (code: number, ...data: number[]): number[] => [...u16(code), ...u16(data.length), ...data];
const duid = (random: Random, address: readonly number[]): number[] =>
  oneOf(
    random,
    [0, 3, 0, 1, ...address],
    [0, 1, 0, 1, 1, 2, 3, 4, ...address],
    [0, 2, 0, 0, 0, 9, 1, 2, 3], // of the vendor
    [0, 4, ...repeat(16, 7)], // a UUID
  );

/** A message of a DHCP client (RFC 2131) whose addresses are these. */
function request(random: Random, chaddr: readonly number[], inId: readonly number[]): number[] {
  const id = oneOf(random, [], option(61, 1, ...inId), option(61, 255, 0, 0, 0, 1, ...duid(random, inId)));
  const more = oneOf(random, [], [0, 0], option(12, 110, 111), option(55, 1, 3, 6), option(50, 10, 0, 0, 9));
  const end = oneOf(random, [255], [255, 0, 0], [], option(61));
  return [
    ...[1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0],
    ...repeat(16),
    ...[...chaddr, ...repeat(10), ...repeat(192)],
    ...[99, 130, 83, 99, ...option(53, oneOf(random, 1, 3, 4, 7, 8)), ...more, ...id, ...end],
  ];
}

/** The same of DHCPv6 (RFC 8415). */
function solicit(random: Random, inId: readonly number[]): number[] {
  const options = [
    option6(8, 0, 0),
    option6(6, 0, 23),
    option6(3, ...repeat(12)),
    option6(1, ...duid(random, inId)),
  ];
  const order = random(2) === 0 ? options : options.toReversed();
  return [oneOf(random, 1, 3, 5, 6, 8, 11), 1, 2, 3, ...order.flat()];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The MAC address in a DUID, if there is one. */
function ofDuid(bytes: Uint8Array): string[] {
  const text = hex(bytes);
  const found = /^(?:00030001|00010001.{8})(.{0,12})/.exec(text);
  return found?.[1] === undefined ? [] : [found[1]];
}

/** Addresses that a message to a DHCP server names: chaddr, and those in the client's identifier. */
function named(message: Uint8Array): string[] {
  const names = [hex(message.subarray(28, 28 + (message[2] ?? 0)))];
  if (hex(message.subarray(236, 240)) !== "63825363") return names;
  // An option that comes several times is one, whose parts are put together (RFC 3396).
  let id = Buffer.alloc(0);
  for (let rest = message.subarray(240); rest.length > 0 && rest[0] !== 255; ) {
    if (rest[0] === 0) {
      rest = rest.subarray(1);
      continue;
    }
    const end = 2 + (rest[1] ?? 0);
    if (rest[0] === 61) {
      const part = rest.subarray(2, end);
      names.push(...ofClientId(part));
      id = Buffer.concat([id, part]);
    }
    rest = rest.subarray(end);
  }
  return [...names, ...ofClientId(id)];
}

function ofClientId(id: Uint8Array): string[] {
  if (id[0] === 1) return [hex(id.subarray(1, 7))];
  return id[0] === 255 ? ofDuid(id.subarray(5)) : [];
}

/** The same for DHCPv6. */
function named6(message: Uint8Array): string[] {
  const names: string[] = [];
  for (let rest = Buffer.from(message.subarray(4)); rest.length >= 4; ) {
    const end = 4 + rest.readUInt16BE(2);
    if (rest.readUInt16BE(0) === 1) names.push(...ofDuid(rest.subarray(4, end)));
    rest = rest.subarray(end);
  }
  return names;
}

/** The guard's verdict, which depends on the frame alone: not on where it is, nor on what is around it. */
function verdict(frame: Uint8Array, random: Random): string | undefined {
  const at = random(40);
  const around = (byte: number): Uint8Array => {
    const bytes = new Uint8Array(at + frame.length + 40).fill(byte);
    bytes.set(frame, at);
    return bytes;
  };
  const [first, ...others] = [0, 1, 255, random(256)].map((byte) =>
    refusal(around(byte), at, frame.length, GUARD),
  );
  for (const other of others) expect(other).toBe(first);
  return first;
}

fuzz("a request to a DHCP server for IPv4 that names another MAC address does not pass", 6000, (random) => {
  const [chaddr, inId] = [oneOf(random, [...OWN], [...OWN], OTHER), oneOf(random, [...OWN], [...OWN], OTHER)];
  const message = request(random, chaddr, inId);
  const own = hex(OWN);
  const frame = frameOf(4, 68, 67, message);
  const isOwn = named(Uint8Array.from(message)).every((one) => one === own);
  if (!isOwn) expect(verdict(frame, random)).toBe("dhcp");
  for (let i = 0; i < 4; i++) {
    const broken = damage(Uint8Array.from(message), random);
    if (verdict(frameOf(4, 68, 67, [...broken]), random) !== undefined) continue;
    expect([broken[0], ...new Set(named(broken))]).toEqual([1, own]);
  }
});

fuzz("a request to a DHCP server for IPv6 that names another MAC address does not pass", 8000, (random) => {
  const message = solicit(random, oneOf(random, [...OWN], [...OWN], OTHER));
  const own = hex(OWN);
  const isOwn = named6(Uint8Array.from(message)).every((one) => one === own);
  expect(verdict(frameOf(6, 546, 547, message), random)).toBe(isOwn ? undefined : "dhcp");
  for (let i = 0; i < 4; i++) {
    const broken = damage(Uint8Array.from(message), random);
    if (verdict(frameOf(6, 546, 547, [...broken]), random) !== undefined) continue;
    for (const one of named6(broken)) expect(one).toBe(own);
    expect([12, 13]).not.toContain(broken[0]); // relays speak for others
  }
});

fuzz(
  "any frame: a verdict, which depends on the frame alone; another source never passes",
  6000,
  (random) => {
    const version = oneOf(random, 4, 6);
    const message = version === 4 ? request(random, [...OWN], [...OWN]) : solicit(random, [...OWN]);
    const frame = damage(
      frameOf(version, oneOf(random, 67, 68, 546), oneOf(random, 67, 68, 547), message),
      random,
    );
    const bytes = random(10) === 0 ? someBytes(random, 200) : frame;
    if (verdict(bytes, random) === undefined) expect(hex(bytes.subarray(6, 12))).toBe(hex(OWN));
  },
);
