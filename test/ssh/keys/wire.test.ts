/** SSH's data types, to the byte, and their bounds. */

import { expect, test } from "bun:test";
import { WaltError } from "../../../src/errors.ts";
import { WireReader, WireWriter } from "../../../src/ssh/keys/wire.ts";

test("what is written has RFC 4251's bytes and is read back", () => {
  const bytes = new WireWriter()
    .u8(7)
    .u32(0x01020304)
    .u64(2n ** 64n - 1n)
    .string("é")
    .raw(new Uint8Array([9]))
    .bytes();
  expect(bytes.toString("hex")).toBe("0701020304ffffffffffffffff00000002c3a909");
  const reader = new WireReader(bytes);
  expect([reader.u8(), reader.u32(), reader.u64(), reader.text()]).toEqual([
    7,
    0x01020304,
    2n ** 64n - 1n,
    "é",
  ]);
  expect(reader.rest).toBe(1);
  expect(() => reader.end()).toThrow("1 bytes too many");
});

test("bytes that end too early, lengths that lie, and texts that are no UTF-8 are WaltErrors", () => {
  const reader = (...bytes: number[]) => new WireReader(new Uint8Array(bytes));
  expect(() => reader().u8()).toThrow(WaltError);
  expect(() => reader(0, 0, 0).u32()).toThrow(WaltError);
  expect(() => reader(0, 0, 0, 0, 0, 0, 0).u64()).toThrow(WaltError);
  expect(() => reader(0xff, 0xff, 0xff, 0xff, 1).string()).toThrow(WaltError);
  expect(() => reader(0, 0, 0, 2, 1).string()).toThrow(WaltError);
  expect(() => reader(0, 0, 0, 1, 0xff).text()).toThrow(WaltError);
});

test("a string outlives the block it was read from", () => {
  const block = Buffer.from([0, 0, 0, 1, 65]);
  const value = new WireReader(block).string();
  block.fill(0);
  expect(value.toString()).toBe("A");
});
