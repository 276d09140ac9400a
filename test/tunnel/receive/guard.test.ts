/** The guard: which frames of a node pass, and which are refused. */

import { describe, expect, test } from "bun:test";
import {
  GROUP_BYTES,
  GROUP_FRAMES,
  GroupLimit,
  parseGuard,
  parseMac,
  refusal,
} from "../../../src/tunnel/receive/guard.ts";
import { chance, frame } from "../rig.ts";

const NODE = "52:54:00:01:02:03";
const OWN = parseMac(NODE);
const GUARD = parseGuard({ mac: NODE, vlans: [5] });

/** The verdict on a frame from the node, also if it is somewhere in a larger buffer. */
function verdict(rest: readonly number[], source = NODE): string {
  const bytes = frame(source, rest);
  const padded = new Uint8Array(bytes.length + 64).fill(0xff);
  padded.set(bytes, 32);
  const inside = refusal(padded, 32, bytes.length, GUARD) ?? "passes";
  expect(refusal(bytes, 0, bytes.length, GUARD) ?? "passes").toBe(inside);
  return inside;
}

const u16 = (n: number): number[] => [n >> 8, n & 255];
const udp = (from: number, to: number): number[] => [...u16(from), ...u16(to), 0, 8, 0, 0];

interface Ipv4 {
  options?: number;
  fragment?: number;
  protocol?: number;
}
function ipv4(payload: readonly number[], { options = 0, fragment = 0, protocol = 17 }: Ipv4 = {}): number[] {
  const words = 5 + options;
  const head = [
    0x40 | words,
    0,
    ...u16(words * 4 + payload.length),
    0,
    1,
    ...u16(fragment),
    64,
    protocol,
    0,
    0,
  ];
  return [
    0x08,
    0x00,
    ...head,
    10,
    0,
    0,
    1,
    255,
    255,
    255,
    255,
    ...Array<number>(options * 4).fill(1),
    ...payload,
  ];
}

/**
 * `chain`: extension headers, each with its own number and bytes whose first will be the next one's number.
 */
function ipv6(last: number, payload: readonly number[], chain: readonly [number, number[]][] = []): number[] {
  const numbers = [...chain.map(([number]) => number), last];
  const headers = chain.flatMap(([, bytes], i) => [numbers[i + 1] ?? 0, ...bytes.slice(1)]);
  const body = [...headers, ...payload];
  return [
    0x86,
    0xdd,
    0x60,
    0,
    0,
    0,
    ...u16(body.length),
    numbers[0] ?? 0,
    255,
    ...Array<number>(32).fill(1),
    ...body,
  ];
}

/** A UDP datagram with its length. */
function datagram(from: number, to: number, payload: readonly number[]): number[] {
  return [...u16(from), ...u16(to), ...u16(8 + payload.length), 0, 0, ...payload];
}

interface Request {
  from?: number;
  op?: number;
  htype?: number;
  hlen?: number;
  giaddr?: number[];
  chaddr?: readonly number[];
  cookie?: number[];
  options?: readonly number[];
}
/** A DHCP request of the node (RFC 2131), but for what is told. */
function request(o: Request = {}): number[] {
  const { op = 1, htype = 1, hlen = 6, giaddr = [0, 0, 0, 0], chaddr = [...OWN] } = o;
  const fixed = [op, htype, hlen, 0, 1, 2, 3, 4, ...Array<number>(16).fill(0), ...giaddr, ...chaddr];
  const rest = Array<number>(236 - fixed.length).fill(0);
  const { cookie = [99, 130, 83, 99], options = [53, 1, 3, 255] } = o;
  return datagram(o.from ?? 68, 67, [...fixed, ...rest, ...cookie, ...options]);
}
const duidLl = (mac: readonly number[] = [...OWN]): number[] => [0, 3, 0, 1, ...mac];
/** A DHCPv6 SOLICIT with this client identifier. */
function solicit(duid: readonly number[], type = 1): number[] {
  return datagram(546, 547, [type, 1, 2, 3, 0, 8, 0, 2, 0, 0, 0, 1, ...u16(duid.length), ...duid]);
}
const OTHER = [0x52, 0x54, 0, 9, 9, 9];

const RA = [134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const OPTIONS: [number, number[]] = [60, [0, 0, 1, 4, 0, 0, 0, 0]];
const HOP: [number, number[]] = [0, [0, 1, ...Array<number>(14).fill(1)]];
const AH: [number, number[]] = [51, [0, 4, ...Array<number>(22).fill(0)]];
const firstFragment: [number, number[]] = [44, [0, 0, 0, 1, 0, 0, 0, 9]];
const laterFragment: [number, number[]] = [44, [0, 0, 0x05, 0xb9, 0, 0, 0, 9]];

describe("what a node may send", () => {
  const may: Record<string, number[]> = {
    "an ARP request": [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
    "a DHCP request": ipv4(request()),
    "one from another port": ipv4(request({ from: 1068 })),
    "one with its MAC address as identifier": ipv4(request({ options: [61, 7, 1, ...OWN, 255] })),
    "one with an identifier of systemd": ipv4(
      request({ options: [61, 9, 255, 1, 2, 3, 4, 0, 2, 0, 0, 255] }),
    ),
    "one with its DUID-LL": ipv4(
      request({ options: [53, 1, 1, 0, 61, 15, 255, 1, 2, 3, 4, ...duidLl(), 255] }),
    ),
    "a BOOTP request": ipv4(request({ cookie: [0, 0, 0, 0] })),
    "an answer of a web server": ipv4([...u16(80), ...u16(40000), 0, 0, 0, 0], { protocol: 6 }),
    "UDP from elsewhere": ipv4(udp(5353, 5353)),
    "TCP with DHCP's port numbers": ipv4(udp(67, 68), { protocol: 6 }),
    "a later fragment whose bytes look like DHCP": ipv4(udp(67, 68), { fragment: 185 }),
    "a DHCPv6 request": ipv6(17, solicit(duidLl())),
    "one with a DUID-LLT": ipv6(17, solicit([0, 1, 0, 1, 9, 9, 9, 9, ...OWN])),
    "one with a UUID": ipv6(17, solicit([0, 4, ...Array<number>(16).fill(7)])),
    "a router solicitation": ipv6(58, [133, 0, 0, 0]),
    "a neighbour advertisement behind options": ipv6(58, [136, 0, 0, 0], [HOP, OPTIONS]),
    "a later fragment of ICMPv6": ipv6(58, RA, [laterFragment]),
    "no next header": ipv6(59, []),
    "a tagged DHCP request": [0x81, 0x00, 0, 5, ...ipv4(request())],
    "an unknown type": [0x88, 0xb5],
    "a length and LLC": [0, 3, 0x42, 0x42, 3],
  };
  for (const [name, rest] of Object.entries(may)) {
    test(name, () => expect(verdict(rest)).toBe("passes"));
  }
});

describe("what is refused", () => {
  const dhcp: Record<string, number[]> = {
    "a DHCP offer": ipv4(udp(67, 68)),
    "an offer from another port": ipv4(udp(4011, 68)),
    "an offer to a relay": ipv4(udp(67, 67)),
    "an offer behind IPv4 options": ipv4(udp(67, 68), { options: 10 }),
    "the first fragment of an offer": ipv4(udp(67, 68), { fragment: 0x2000 }),
    "an offer in a VLAN": [0x81, 0x00, 0, 5, ...ipv4(udp(67, 68))],
    "an offer behind QinQ": [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 5, ...ipv4(udp(67, 68))],
    "an offer behind four tags": [...Array(4).fill([0x91, 0x00, 0, 5]).flat(), ...ipv4(udp(67, 68))],
    "an offer in LLC/SNAP": [0, 60, 0xaa, 0xaa, 3, 0, 0, 0, ...ipv4(udp(67, 68))],
    "a DHCPv6 advertise": ipv6(17, udp(547, 546)),
    "a DHCPv6 advertise from another port": ipv6(17, udp(1000, 546)),
    "a DHCPv6 advertise behind extension headers": ipv6(17, udp(547, 546), [HOP, OPTIONS, AH]),
    "a DHCPv6 advertise in a first fragment": ipv6(17, udp(547, 546), [firstFragment]),
  };
  const others: Record<string, number[]> = {
    "a DHCP request of another address": ipv4(request({ chaddr: OTHER })),
    "one in a VLAN": [0x81, 0x00, 0, 5, ...ipv4(request({ chaddr: OTHER }))],
    "one behind IPv4 options": ipv4(request({ chaddr: OTHER }), { options: 4 }),
    "one in a first fragment": ipv4(request(), { fragment: 0x2000 }),
    "one in LLC/SNAP": [0, 60, 0xaa, 0xaa, 3, 0, 0, 0, ...ipv4(request())],
    "one by a relay": ipv4(request({ giaddr: [10, 0, 0, 1] })),
    "one with no Ethernet address": ipv4(request({ htype: 6 })),
    "one with a longer address": ipv4(request({ hlen: 7 })),
    "an answer": ipv4(request({ op: 2 })),
    "one with another one's address as identifier": ipv4(request({ options: [61, 7, 1, ...OTHER, 255] })),
    "one with an identifier that is longer": ipv4(request({ options: [61, 8, 1, ...OWN, 1, 255] })),
    "one with another one's DUID-LL": ipv4(
      request({ options: [0, 0, 61, 15, 255, 0, 0, 0, 1, ...duidLl(OTHER), 255] }),
    ),
    "one whose second identifier is another one's": ipv4(
      request({ options: [61, 7, 1, ...OWN, 61, 7, 1, ...OTHER, 255] }),
    ),
    "one with an identifier of no bytes, behind which it ends": ipv4(request({ options: [53, 1, 3, 61, 0] })),
    "one with options in other fields": ipv4(request({ options: [52, 1, 3, 255] })),
    "one whose option is cut off": ipv4(request({ options: [53, 1, 1, 61, 7, 1] })),
    "one that is too short": ipv4(datagram(68, 67, Array<number>(100).fill(1))),
    "a DHCPv6 request with another one's DUID-LL": ipv6(17, solicit(duidLl(OTHER))),
    "one with another one's DUID-LLT": ipv6(17, solicit([0, 1, 0, 1, 9, 9, 9, 9, ...OTHER])),
    "one with a DUID that is cut off": ipv6(17, solicit([0])),
    "one behind extension headers": ipv6(17, solicit(duidLl(OTHER)), [HOP, OPTIONS]),
    "one in a first fragment of IPv6": ipv6(17, solicit(duidLl()), [firstFragment]),
    "a DHCPv6 relay's": ipv6(17, solicit(duidLl(), 12)),
    "a DHCPv6 message without options that has an end": ipv6(17, datagram(546, 547, [1, 2, 3, 4, 0, 1, 0])),
  };
  for (const [name, rest] of Object.entries(others)) test(name, () => expect(verdict(rest)).toBe("dhcp"));

  test("a super-frame of DHCP requests, of which only the first is known", () => {
    const bytes = frame(NODE, ipv4(request()));
    expect(refusal(bytes, 0, bytes.length, GUARD)).toBeUndefined();
    expect(refusal(bytes, 0, bytes.length, GUARD, 2)).toBe("dhcp");
  });

  for (const [name, rest] of Object.entries(dhcp)) test(name, () => expect(verdict(rest)).toBe("dhcp"));

  const router: Record<string, number[]> = {
    "a router advertisement": ipv6(58, RA),
    "one behind each extension header": ipv6(58, RA, [HOP, OPTIONS, AH, firstFragment, OPTIONS]),
    "one in a VLAN": [0x81, 0x00, 0, 5, ...ipv6(58, RA)],
    "one behind QinQ": [0x88, 0xa8, 0, 7, 0x81, 0x00, 0, 5, ...ipv6(58, RA, [OPTIONS])],
  };
  for (const [name, rest] of Object.entries(router)) test(name, () => expect(verdict(rest)).toBe("router"));

  const vlan: Record<string, number[]> = {
    "a tag of another VLAN": [0x81, 0x00, 0, 6, 0x08, 0x06, 0, 1, 8, 0, 6, 4],
    "a tag of priority": [0x81, 0x00, 0, 0, 0x08, 0x06, 0, 1, 8, 0, 6, 4],
    "two tags": [0x81, 0x00, 0, 5, 0x81, 0x00, 0, 5, 0x08, 0x06, 0, 1],
    "a tag of 802.1ad": [0x88, 0xa8, 0, 5, 0x08, 0x06, 0, 1, 8, 0, 6, 4],
    "a DHCP request of its own in another VLAN": [0x81, 0x00, 0x20, 6, ...ipv4(request())],
  };
  for (const [name, rest] of Object.entries(vlan)) test(name, () => expect(verdict(rest)).toBe("vlan"));

  test("any tag, unless it is told", () => {
    const bytes = frame(NODE, [0x81, 0x00, 0xe0, 5, 0x08, 0x06, 0, 1]);
    expect(refusal(bytes, 0, bytes.length, GUARD)).toBeUndefined();
    expect(refusal(bytes, 0, bytes.length, parseGuard({ mac: NODE }))).toBe("vlan");
  });

  test("PAUSE behind a tag", () => {
    expect(verdict([0x81, 0x00, 0, 5, 0x88, 0x08, 0, 1])).toBe("control");
  });

  test("any source but the node's own", () => {
    expect(verdict([0x88, 0xb5], "52:54:00:01:02:04")).toBe("source");
    expect(verdict(ipv4(request()), "ff:ff:ff:ff:ff:ff")).toBe("source");
  });

  test("a chain of headers that continues in the next fragment", () => {
    expect(verdict(ipv6(58, [], [firstFragment]))).toBe("malformed");
    expect(verdict(ipv6(58, [], [firstFragment, [60, [0, 30, 0, 0, 0, 0, 0, 0]]]))).toBe("malformed");
  });

  test("headers that are cut off are never taken for harmless", () => {
    for (const whole of [...Object.values(dhcp), ...Object.values(router)]) {
      const needed = frame(NODE, whole).length;
      for (let cut = 14; cut < needed; cut++) {
        const bytes = frame(NODE, whole).subarray(0, cut);
        const found = refusal(bytes, 0, cut, GUARD);
        // A payload may be cut beyond what the guard checks. An LLC header without a complete SNAP header is
        // read by nobody.
        const llc = whole[0] === 0 && cut < 12 + 2 + 8;
        if (found === undefined) expect(llc).toBe(true);
      }
    }
  });

  test("a version that does not match the type", () => {
    // More tags than anybody uses would hide what follows.
    expect(verdict([...Array(5).fill([0x91, 0x00, 0, 5]).flat(), ...ipv4(udp(1, 2))])).toBe("malformed");
    expect(verdict([0x08, 0x00, 0x65, ...Array<number>(40).fill(0)])).toBe("malformed");
    expect(verdict([0x86, 0xdd, 0x45, ...Array<number>(60).fill(0)])).toBe("malformed");
    expect(verdict([0x08, 0x00, 0x44, ...Array<number>(40).fill(0)])).toBe("malformed");
  });
});

test("random bytes never throw nor read outside the frame", () => {
  const random = chance(20260101);
  for (let i = 0; i < 20_000; i++) {
    const bytes = new Uint8Array(14 + random(120)).map(() => random(256));
    bytes.set(OWN, 6);
    const heads = [
      [0x08, 0x00, 0x45],
      [0x86, 0xdd, 0x60],
      [0x81, 0x00],
    ];
    bytes.set((heads[random(4)] ?? []).slice(0, bytes.length - 12), 12);
    const alone = refusal(bytes, 0, bytes.length, GUARD);
    // The same verdict with other bytes behind the frame: they are not read.
    const more = new Uint8Array(bytes.length + 100).fill(random(256));
    more.set(bytes);
    expect(refusal(more, 0, bytes.length, GUARD)).toBe(alone);
  }
});

test("MAC addresses: only those of one machine", () => {
  expect([...parseMac("52:54:00:AB:cd:ef")]).toEqual([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
  for (const bad of ["", "52:54:00:01:02", "52-54-00-01-02-03", "52:54:00:01:02:0g", "01:00:5e:00:00:01"]) {
    expect(() => parseMac(bad)).toThrow(/MAC|group/);
  }
});

test("frames to group addresses are limited: a burst, then a rate", () => {
  const limit = new GroupLimit();
  const passed = (from: number, to: number): number => {
    let count = 0;
    for (let now = from; now < to; now += 0.01) if (limit.allows(1, 60, now)) count++;
    return count;
  };
  expect(passed(1e6, 1e6 + 1000)).toBeWithin(2 * GROUP_FRAMES - 5, 2 * GROUP_FRAMES + 5);
  expect(passed(1e6 + 1000, 1e6 + 2000)).toBeWithin(GROUP_FRAMES - 5, GROUP_FRAMES + 5);
});

test("what counts is what the network sees: the segments of a super-frame, and their bytes", () => {
  const limit = new GroupLimit();
  expect(limit.allows(GROUP_FRAMES + 1, 60_000, 1e6)).toBe(false);
  expect(limit.allows(GROUP_FRAMES - 10, 60_000, 1e6)).toBe(true);
  expect(limit.allows(11, 1000, 1e6)).toBe(false);
  expect(new GroupLimit().allows(1, GROUP_BYTES + 1, 1e6)).toBe(false);
});

test.each([
  ["spanning tree", "01:80:c2:00:00:00"],
  ["LLDP", "01:80:c2:00:00:0e"],
  ["MVRP", "01:80:c2:00:00:21"],
  ["CDP and VTP", "01:00:0c:cc:cc:cc"],
  ["PVST+", "01:00:0c:cc:cc:cd"],
])("frames of switches among themselves are refused: %s", (_, to) => {
  const bytes = frame(NODE, [0, 3, 0x42, 0x42, 3], to);
  expect(refusal(bytes, 0, bytes.length, GUARD)).toBe("control");
});

test("PAUSE frames are refused, whoever they are for", () => {
  const bytes = frame(NODE, [0x88, 0x08, 0, 1], "52:54:00:00:00:09");
  expect(refusal(bytes, 0, bytes.length, GUARD)).toBe("control");
});
