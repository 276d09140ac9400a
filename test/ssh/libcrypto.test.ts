/** AES-GCM of libcrypto against node's own, and SSH's packets made of it. */

import { describe, expect, spyOn, test } from "bun:test";
import { createCipheriv, randomBytes } from "node:crypto";
import { allocate, type Memory } from "../../src/linux/libc.ts";
import { AesGcm, type Libcrypto, libcrypto } from "../../src/linux/libcrypto.ts";
import {
  Opener,
  OVERHEAD,
  PACKET_MAX,
  PAYLOAD,
  packetSize,
  Sealer,
} from "../../src/ssh/handshake/packet-cipher.ts";
import { PacketStream } from "../../src/ssh/handshake/packet-stream.ts";
import { chance } from "../tunnel/rig.ts";

const key = randomBytes(16);
const iv = Buffer.from("00010203fffffffffffffffe", "hex");

function memory(bytes: Uint8Array, more = 0): Memory {
  const made = allocate(bytes.length + more);
  made.bytes.set(bytes);
  return made;
}

test("sealed as node:crypto seals, byte for byte, of any length", () => {
  const ours = new AesGcm(true, key, iv);
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

test.each([
  [15, 12],
  [17, 12],
  [0, 12],
  [16, 11],
  [16, 16],
])("a key of %d bytes with an IV of %d is refused", (key, iv) => {
  expect(() => new AesGcm(true, new Uint8Array(key), new Uint8Array(iv))).toThrow(RangeError);
});

/** libcrypto in which some functions fail, as they say so: by these values. */
function failing(instead: Partial<Record<keyof Libcrypto, 0 | null>>) {
  const counts = { made: 0, freed: 0 };
  const lib = libcrypto();
  const made: Libcrypto = {
    ...lib,
    EVP_CIPHER_CTX_new: () => {
      counts.made++;
      return lib.EVP_CIPHER_CTX_new();
    },
    EVP_CIPHER_CTX_free: (context) => {
      counts.freed++;
      return lib.EVP_CIPHER_CTX_free(context);
    },
    ...Object.fromEntries(Object.entries(instead).map(([name, value]) => [name, () => value])),
  };
  return { lib: made, counts };
}

describe("where libcrypto fails", () => {
  test("a cipher that cannot begin is an error, and leaves nothing behind", () => {
    for (const [encrypts, name] of [
      [true, "EVP_EncryptInit_ex"],
      [false, "EVP_DecryptInit_ex"],
    ] as const) {
      const { lib, counts } = failing({ [name]: 0 });
      expect(() => new AesGcm(encrypts, key, iv, lib)).toThrow("libcrypto has no AES-128-GCM");
      expect(counts).toEqual({ made: 1, freed: 1 });
    }
    const { lib, counts } = failing({ EVP_CIPHER_CTX_new: null });
    expect(() => new AesGcm(true, key, iv, lib)).toThrow("no room");
    expect(counts.freed).toBe(0);
  });

  /** A library that works until it is told otherwise: after a cipher has begun. */
  function later(name: keyof Libcrypto): { lib: Libcrypto; fail: () => void } {
    const { lib } = failing({});
    return { lib, fail: () => void Object.assign(lib, { [name]: () => 0 }) };
  }
  const payload = randomBytes(1000);

  test.each([
    "EVP_EncryptInit_ex",
    "EVP_EncryptUpdate",
    "EVP_EncryptFinal_ex",
    "EVP_CIPHER_CTX_ctrl",
  ] as const)("%s: nothing is sealed, and the counter stays", (name) => {
    const { lib, fail } = later(name);
    const sealer = new Sealer({ key, iv }, lib);
    fail();
    const packet = allocate(2000);
    packet.bytes.set(payload, PAYLOAD);
    expect(() => sealer.seal(packet, payload.length, allocate(2000), 0)).toThrow("could not encrypt");
    expect(Buffer.from(sealer.keys.iv)).toEqual(iv);
    sealer.free();
  });

  test.each([
    "EVP_DecryptInit_ex",
    "EVP_DecryptUpdate",
    "EVP_CIPHER_CTX_ctrl",
    "EVP_DecryptFinal_ex",
  ] as const)("%s: nothing is opened, and nothing of it is left", (name) => {
    const { lib, fail } = later(name);
    const opener = new Opener({ key, iv }, lib);
    fail();
    const [packet, sealed] = [allocate(2000), allocate(2000)];
    packet.bytes.set(payload, PAYLOAD);
    const size = new Sealer({ key, iv }).seal(packet, payload.length, sealed, 0);
    expect(() => opener.open(sealed, 0, size)).toThrow(/could not decrypt|a forged packet/);
    expect(sealed.bytes.every((byte) => byte === 0)).toBe(true);
    opener.free();
  });

  test("a packet that was changed leaves nothing of what it said", () => {
    const [packet, sealed] = [allocate(2000), allocate(2000)];
    packet.bytes.set(payload, PAYLOAD);
    const size = new Sealer({ key, iv }).seal(packet, payload.length, sealed, 0);
    sealed.bytes[size - 1] = (sealed.bytes[size - 1] ?? 0) ^ 1;
    expect(() => new Opener({ key, iv }).open(sealed, 0, size)).toThrow("a forged packet");
    expect(sealed.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test("a connection sends nothing that was not sealed", () => {
    const packets = new PacketStream();
    packets.rekeyOut({ key, iv });
    const seal = spyOn(AesGcm.prototype, "seal").mockImplementation(() => {
      throw new Error("libcrypto could not");
    });
    expect(() => packets.send(payload)).toThrow("libcrypto could not");
    seal.mockRestore();
    expect([packets.waiting, packets.output().length]).toEqual([0, 0]);
    packets.free();
  });
});

test("what was changed in any place is not opened", () => {
  const sealer = new AesGcm(true, key, iv);
  const opener = new AesGcm(false, key, iv);
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
  expect(Buffer.from(sealer.keys.iv)).toEqual(Buffer.from(opener.keys.iv));
  expect(sealer.keys.iv.slice(0, 4)).toEqual(Uint8Array.from(iv.subarray(0, 4)));
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
