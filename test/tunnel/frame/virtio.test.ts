/** What a peer's virtio-net header may ask for, and how super-frames are split, byte for byte. */

import { expect, test } from "bun:test";
import { readU16 } from "../../../src/bytes.ts";
import { fold, sum16 } from "../../../src/tunnel/frame/headers.ts";
import { sanitise, VIRTIO } from "../../../src/tunnel/frame/virtio.ts";
import { plan, planSplit, split } from "../../../src/tunnel/send/super-frame.ts";
import { chance } from "../rig.ts";
import { build, type Super, segments } from "../super.ts";

const supers: Super[] = [];
for (const version of [4, 6] as const) {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const tags of [0, 1, 2]) supers.push({ version, protocol, tags, data: 30_001, segment: 1448 });
  }
}

test("the parts of a split super-frame have the same segments", () => {
  for (const one of supers) {
    for (const max of [100, 1600, 5000, 20_000]) {
      const whole = build(one);
      const expected = segments(whole);
      const memory = new Uint8Array(200_000);
      memory.set(whole, 1000);
      let start = 1000;
      const end = 1000 + whole.length;
      const got: string[] = [];
      while (planSplit(memory, start, end, max)) {
        const size = plan.headers + plan.data;
        memory.copyWithin(100_000, start, start + size);
        split(memory, 100_000, start, end);
        const part = memory.slice(100_000, 100_000 + size);
        expect(sanitise(part.slice(), 0, part.length, false)).toBe(true);
        expect(size).toBeLessThanOrEqual(Math.max(max, 1448 + 200));
        got.push(...segments(part));
        start += plan.data;
      }
      got.push(...segments(memory.slice(start, end)));
      expect(got).toEqual(expected);
    }
  }
});

test("a super-frame without its first segment has the other segments", () => {
  for (const one of supers) {
    const whole = build(one);
    const expected = segments(whole);
    expect(planSplit(whole, 0, whole.length, 0)).toBe(true);
    split(whole, -1, 0, whole.length);
    // All but the first: CWR was the first one's.
    expect(segments(whole.slice(plan.data))).toEqual(expected.slice(1));
  }
});

test("what a kernel asks for passes unchanged", () => {
  for (const one of [...supers, ...supers.map((s) => ({ ...s, data: 900 }))]) {
    const bytes = build(one);
    const before = bytes.slice();
    expect(sanitise(bytes, 0, bytes.length, false)).toBe(true);
    // hdr_len is only a hint; it is corrected.
    bytes.set(before.subarray(2, 4), 2);
    expect(bytes).toEqual(before);
  }
});

test("a header that contradicts its frame is refused", () => {
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

test("a checksum that is not that of TCP or UDP is written before the guard checks the frame", () => {
  // UDP from port 40000 to port 80: the "checksum" is put where the destination port is.
  const bytes = build({ version: 4, protocol: "udp", data: 100, segment: 1448 });
  bytes.set([2, 0], 8);
  const port = VIRTIO + 14 + 20 + 2;
  const expected = ~fold(sum16(bytes, VIRTIO + 34, bytes.length)) & 0xffff;
  expect(sanitise(bytes, 0, bytes.length, false)).toBe(true);
  expect(readU16(bytes, port)).toBe(expected);
  expect([...bytes.subarray(0, VIRTIO)]).toEqual(Array(VIRTIO).fill(0));
});

test('"the checksum is right" is believed only if the peer is trusted', () => {
  const bytes = build({ version: 4, protocol: "udp", data: 100, segment: 1448 });
  for (const trusted of [true, false]) {
    const one = bytes.slice();
    one.fill(0, 0, VIRTIO);
    one[0] = 2;
    expect(sanitise(one, 0, one.length, trusted)).toBe(true);
    expect(one[0]).toBe(trusted ? 2 : 0);
  }
});

test("random headers and frames: no exception, no write outside, and a second pass changes nothing", () => {
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
