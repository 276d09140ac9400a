/** AES-GCM of libcrypto against node's own, and SSH's packets made of it. */

import { expect, test } from "bun:test";
import { createCipheriv, randomBytes } from "node:crypto";
import { allocate, type Memory } from "../../src/linux/libc.ts";
import { AesGcm } from "../../src/linux/libcrypto.ts";
import {
  Opener,
  OVERHEAD,
  PACKET_MAX,
  PAYLOAD,
  packetSize,
  Sealer,
} from "../../src/ssh/handshake/packet-cipher.ts";
import { chance } from "../tunnel/rig.ts";

const key = randomBytes(16);
const iv = Buffer.from("00010203fffffffffffffffe", "hex");

function memory(bytes: Uint8Array, more = 0): Memory {
  const made = allocate(bytes.length + more);
  made.bytes.set(bytes);
  return made;
}

test("sealed as node:crypto seals, byte for byte, of any length", () => {
  const ours = new AesGcm(true, key);
  for (const length of [5, 16, 20, 100, 4096, 35_000]) {
    const plain = randomBytes(length);
    const theirs = createCipheriv("aes-128-gcm", key, iv).setAAD(plain.subarray(0, 4));
    const expected = Buffer.concat([theirs.update(plain.subarray(4)), theirs.final(), theirs.getAuthTag()]);
    ours.iv.bytes.set(iv);
    const from = memory(plain);
    const to = allocate(length + 16);
    ours.seal(from.address, to.address, 4, length);
    expect(Buffer.from(to.bytes.subarray(4)).equals(expected)).toBe(true);
  }
  ours.free();
});

test("what was changed in any place is not opened", () => {
  const sealer = new AesGcm(true, key);
  const opener = new AesGcm(false, key);
  for (const one of [sealer, opener]) one.iv.bytes.set(iv);
  const plain = randomBytes(64);
  const sealed = allocate(80);
  sealer.seal(memory(plain).address, sealed.address, 4, 64);
  sealed.bytes.set(plain.subarray(0, 4)); // what is in clear is not copied
  for (const i of [0, 3, 4, 40, 63, 64, 79]) {
    const changed = memory(sealed.bytes);
    changed.bytes[i] = (changed.bytes[i] ?? 0) ^ 1;
    expect(opener.open(changed.address, 4, 64)).toBe(false);
  }
  expect(opener.open(sealed.address, 4, 64)).toBe(true);
  expect(Buffer.from(sealed.bytes.subarray(0, 64)).equals(plain)).toBe(true);
  for (const one of [sealer, opener]) one.free();
});

test("packets of every length come out as they went in, the counter carried over its bytes", () => {
  const sealer = new Sealer({ key, iv });
  const opener = new Opener({ key, iv });
  const packet = allocate(PACKET_MAX + OVERHEAD);
  const out = allocate(PACKET_MAX + OVERHEAD + 7);
  const random = chance(5);
  for (let i = 0; i < 400; i++) {
    const length = 1 + (i < 100 ? i : random(32_777));
    const payload = randomBytes(length);
    packet.bytes.set(payload, PAYLOAD);
    const size = sealer.seal(packet, length, out, 7);
    expect(size).toBeLessThanOrEqual(length + OVERHEAD);
    expect(packetSize(out.bytes, 7, 7 + size)).toBe(size);
    opener.open(out, 7, size);
    expect(payload.equals(out.bytes.subarray(7 + PAYLOAD, opener.end))).toBe(true);
  }
  expect(Buffer.from(sealer.iv)).toEqual(Buffer.from(opener.iv));
  expect(sealer.iv.slice(0, 4)).toEqual(Uint8Array.from(iv.subarray(0, 4)));
});

test("a packet's length is looked at before anything is waited for", () => {
  const size = (length: number): number => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(0, length);
    return packetSize(bytes, 0, 8);
  };
  expect(size(32)).toBe(4 + 32 + 16);
  expect(packetSize(new Uint8Array(3), 0, 3)).toBe(0);
  for (const bad of [0, 15, 17, 35_008, 0xffff_fff0]) expect(() => size(bad)).toThrow("cannot be");
});
