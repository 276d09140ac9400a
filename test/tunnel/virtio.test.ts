/** What a peer's virtio-net header may ask for, and super-frames cut in pieces, byte by byte. */

import { expect, test } from "bun:test";
import { findHeaders, fold, Headers, pseudoSum, sum16, writeU16 } from "../../src/tunnel/headers.ts";
import { readU16, readU32 } from "../../src/tunnel/message.ts";
import { cut, measure, separate } from "../../src/tunnel/slice.ts";
import { complete, littleU16, sanitise, VIRTIO } from "../../src/tunnel/virtio.ts";
import { chance } from "./rig.ts";

const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const TAG = [0x81, 0, 0, 5];

interface Super {
  version: 4 | 6;
  protocol: "tcp" | "udp";
  tags?: number;
  data: number;
  segment: number;
}

/** A virtio-net header and a super-frame, as a kernel hands it over. */
function build({ version, protocol, tags = 0, data, segment }: Super): Uint8Array {
  const l4 = protocol === "tcp" ? 32 : 8;
  const l3 = version === 4 ? 20 : 40;
  const network = VIRTIO + 14 + 4 * tags;
  const transport = network + l3;
  const bytes = new Uint8Array(transport + l4 + data);
  bytes.set([...MACS, ...Array(tags).fill(TAG).flat(), ...(version === 4 ? [8, 0] : [0x86, 0xdd])], VIRTIO);
  const number = protocol === "tcp" ? 6 : 17;
  if (version === 4) {
    bytes.set([0x45, 0, 0, 0, 0x12, 0xff, 0x40, 0, 64, number, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], network);
    writeU16(bytes, network + 2, l3 + l4 + data);
    writeU16(bytes, network + 10, ~fold(sum16(bytes, network, transport)));
  } else {
    bytes.set([0x60, 0, 0, 0, 0, 0, number, 64], network);
    writeU16(bytes, network + 4, l4 + data);
    bytes.fill(7, network + 8, transport);
  }
  writeU16(bytes, transport, 40_000);
  writeU16(bytes, transport + 2, 80);
  // Sequence number near its end; header of 32 bytes; CWR, ACK, PSH, FIN.
  if (protocol === "tcp") bytes.set([0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x80, 0x99, 1, 0], transport + 4);
  else writeU16(bytes, transport + 4, l4 + data);
  const random = chance(data + segment);
  for (let i = transport + l4; i < bytes.length; i++) bytes[i] = random(256);
  const found = new Headers();
  findHeaders(bytes, VIRTIO, bytes.length, found);
  const field = protocol === "tcp" ? 16 : 6;
  writeU16(bytes, transport + field, pseudoSum(bytes, found, l4 + data));
  const gso = data <= segment ? 0 : protocol === "udp" ? 5 : version === 4 ? 1 : 4;
  const little = [l3 + l4 + 14 + 4 * tags, gso === 0 ? 0 : segment, transport - VIRTIO, field];
  bytes.set([1, gso, ...little.flatMap((n) => [n & 255, n >> 8])]);
  return bytes;
}

/** What the network sees of a frame: its segments one by one with all checksums, by the book and not by our code's short cuts. */
function segments(bytes: Uint8Array): string[] {
  const found = new Headers();
  const copy = bytes.slice();
  findHeaders(copy, VIRTIO, copy.length, found);
  const tcp = found.protocol === 6;
  const head = found.transport + (tcp ? ((copy[found.transport + 12] ?? 0) >> 4) * 4 : 8);
  const size = copy[1] === 0 ? copy.length - head : littleU16(copy, 4);
  const made: string[] = [];
  for (let at = head, i = 0; at < copy.length; at += size, i++) {
    const data = copy.subarray(at, at + size);
    const last = at + size >= copy.length;
    const one = new Uint8Array(head + data.length);
    one.set(copy.subarray(0, head));
    one.set(data, head);
    const { network, transport, version } = found;
    const length = one.length - transport;
    if (version === 4) {
      writeU16(one, network + 2, one.length - network);
      writeU16(one, network + 4, readU16(copy, network + 4) + i);
      writeU16(one, network + 10, 0);
      writeU16(one, network + 10, ~fold(sum16(one, network, transport)));
    } else writeU16(one, network + 4, length);
    if (tcp) {
      new DataView(one.buffer).setUint32(transport + 4, readU32(copy, transport + 4) + i * size);
      let flags = copy[transport + 13] ?? 0;
      if (!last) flags &= ~0x09;
      if (i > 0) flags &= ~0x80;
      one[transport + 13] = flags;
    } else writeU16(one, transport + 4, length);
    writeU16(one, transport + (tcp ? 16 : 6), pseudoSum(one, found, length));
    const start = transport - VIRTIO;
    complete(one, VIRTIO + start, tcp ? 16 : 6, VIRTIO, one.length);
    made.push(Buffer.from(one.subarray(VIRTIO)).toString("base64"));
  }
  return made;
}

const supers: Super[] = [];
for (const version of [4, 6] as const) {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const tags of [0, 1, 2]) supers.push({ version, protocol, tags, data: 30_001, segment: 1448 });
  }
}

test("super-frames cut in pieces are the same segments", () => {
  for (const one of supers) {
    for (const max of [100, 1600, 5000, 20_000]) {
      const whole = build(one);
      const expected = segments(whole);
      const memory = new Uint8Array(200_000);
      memory.set(whole, 1000);
      let start = 1000;
      const end = 1000 + whole.length;
      const got: string[] = [];
      while (measure(memory, start, end, max)) {
        const size = cut.headers + cut.data;
        memory.copyWithin(100_000, start, start + size);
        separate(memory, 100_000, start, end);
        const part = memory.slice(100_000, 100_000 + size);
        expect(sanitise(part.slice(), 0, part.length, false)).toBe(true);
        expect(size).toBeLessThanOrEqual(Math.max(max, 1448 + 200));
        got.push(...segments(part));
        start += cut.data;
      }
      got.push(...segments(memory.slice(start, end)));
      expect(got).toEqual(expected);
    }
  }
});

test("what a kernel asks for is let through as it is", () => {
  for (const one of [...supers, ...supers.map((s) => ({ ...s, data: 900 }))]) {
    const bytes = build(one);
    const before = bytes.slice();
    expect(sanitise(bytes, 0, bytes.length, false)).toBe(true);
    // hdr_len is a hint, which we put right.
    bytes.set(before.subarray(2, 4), 2);
    expect(bytes).toEqual(before);
  }
});

test("what cannot be is refused", () => {
  const base: Super = { version: 4, protocol: "tcp", data: 10_000, segment: 1448 };
  const cases: [string, (bytes: Uint8Array) => void][] = [
    ["segmentation without a checksum", (b) => (b[0] = 0)],
    ["an unknown kind", (b) => (b[1] = 3)],
    ["TCP over IPv6, which it is not", (b) => (b[1] = 4)],
    ["UDP, which it is not", (b) => (b[1] = 5)],
    ["UDP with ECN", (b) => (b[1] = 0x85)],
    ["segments of no size", (b) => b.fill(0, 4, 6)],
    ["tiny segments", (b) => b.set([8, 0], 4)],
    ["a checksum that begins elsewhere", (b) => b.set([20, 0], 6)],
    ["a checksum in the ports", (b) => b.set([2, 0], 8)],
    ["a fragment", (b) => (b[VIRTIO + 20] = 0x20)],
    ["no headers at all", (b) => b.fill(0, VIRTIO)],
    ["a TCP header beyond the end", (b) => (b[VIRTIO + 46] = 0x40)],
  ];
  for (const [name, change] of cases) {
    const bytes = build(base);
    change(bytes);
    expect(`${name}: ${sanitise(bytes, 0, bytes.length, true)}`).toBe(`${name}: false`);
  }
  const many = build({ version: 6, protocol: "udp", data: 10_000, segment: 10 });
  expect(sanitise(many, 0, many.length, true)).toBe(false);
});

test("a checksum in an odd place is written before anybody looks at the frame", () => {
  // UDP from port 40000 to port 80: the "checksum" is put where the destination port is.
  const bytes = build({ version: 4, protocol: "udp", data: 100, segment: 1448 });
  bytes.set([2, 0], 8);
  const port = VIRTIO + 14 + 20 + 2;
  const expected = ~fold(sum16(bytes, VIRTIO + 34, bytes.length)) & 0xffff;
  expect(sanitise(bytes, 0, bytes.length, false)).toBe(true);
  expect(readU16(bytes, port)).toBe(expected);
  expect([...bytes.subarray(0, VIRTIO)]).toEqual(Array(VIRTIO).fill(0));
});

test('"the checksum is right" is believed of who is trusted only', () => {
  const bytes = build({ version: 4, protocol: "udp", data: 100, segment: 1448 });
  for (const trusted of [true, false]) {
    const one = bytes.slice();
    one.fill(0, 0, VIRTIO);
    one[0] = 2;
    expect(sanitise(one, 0, one.length, trusted)).toBe(true);
    expect(one[0]).toBe(trusted ? 2 : 0);
  }
});

test("random headers in front of random frames: no fault, nothing outside, and a second look changes nothing", () => {
  const random = chance(2024);
  let passed = 0;
  for (let i = 0; i < 6000; i++) {
    const base = build(
      supers[random(supers.length)] ?? { version: 4, protocol: "tcp", data: 3000, segment: 1000 },
    ).slice(0, VIRTIO + 14 + random(3000));
    for (let k = random(6); k > 0; k--) base[random(random(2) === 0 ? VIRTIO : 90)] = random(256);
    const room = new Uint8Array(base.length + 64).fill(0xa5);
    room.set(base, 32);
    const end = 32 + base.length;
    if (sanitise(room, 32, end, random(2) === 0)) {
      passed++;
      const again = room.slice();
      expect(sanitise(again, 32, end, true)).toBe(true);
      expect(Buffer.from(again).equals(room)).toBe(true);
    }
    expect(room.subarray(0, 32).every((b) => b === 0xa5) && room.subarray(end).every((b) => b === 0xa5)).toBe(
      true,
    );
  }
  expect(passed).toBeGreaterThan(300);
});
