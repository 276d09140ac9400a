import { expect, test } from "bun:test";
import { allocate } from "../../src/linux/libc.ts";
import {
  FRAME_MAX,
  PAYLOAD_MAX,
  readU32,
  TYPE,
  writeClose,
  writeHello,
  writePing,
} from "../../src/tunnel/message.ts";
import { FrameQueue } from "../../src/tunnel/queue.ts";
import { MessageReader } from "../../src/tunnel/reader.ts";
import { chance, message } from "./rig.ts";

const LENGTHS: Record<number, (random: (below: number) => number) => number> = {
  [TYPE.hello]: () => 8,
  [TYPE.frame]: (random) => 14 + random(random(10) === 0 ? FRAME_MAX - 13 : 1500),
  [TYPE.ping]: () => 8,
  [TYPE.pong]: () => 8,
  [TYPE.close]: (random) => random(201),
};

/** Put bytes into a reader in pieces and take out what it finds. */
function readIn(stream: Uint8Array, piece: () => number): { found: Uint8Array[]; reader: MessageReader } {
  const reader = new MessageReader();
  const found: Uint8Array[] = [];
  for (let done = 0; done < stream.length && reader.problem === undefined; ) {
    const n = Math.min(piece(), reader.room, stream.length - done);
    expect(reader.room).toBeGreaterThan(0);
    reader.memory.bytes.set(stream.subarray(done, done + n), reader.end);
    reader.filled(n);
    done += n;
    while (reader.next()) {
      const { memory, offset, length, type } = reader;
      found.push(message(type, memory.bytes.subarray(offset, offset + length)));
    }
  }
  return { found, reader };
}

test("any stream of messages, cut anywhere, gives the same messages", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = chance(seed * 7919);
    const messages = Array.from({ length: 1 + random(60) }, () => {
      const type = random(5);
      const payload = new Uint8Array(LENGTHS[type]?.(random) ?? 0);
      for (let i = 0; i < payload.length; i += 1 + random(50)) payload[i] = random(256);
      return message(type, payload);
    });
    const largest = [1, 3, 100, 2000, 200_000][seed % 5] ?? 1;
    const { found, reader } = readIn(Buffer.concat(messages), () => 1 + random(largest));
    expect(Buffer.concat(found).equals(Buffer.concat(messages))).toBe(true);
    expect(found.length).toBe(messages.length);
    expect([reader.problem, reader.empty]).toEqual([undefined, true]);
  }
});

test("random bytes: the reader ends with a problem or waits, and never overruns its memory", () => {
  const random = chance(4711);
  for (let i = 0; i < 3000; i++) {
    const stream = new Uint8Array(random(400)).map(() => random(random(2) === 0 ? 5 : 256));
    const { reader } = readIn(stream, () => 1 + random(64));
    expect(reader.end).toBeLessThanOrEqual(reader.memory.bytes.length);
    if (reader.problem !== undefined) {
      expect(reader.problem).toMatch(/ bytes|unknown type/);
      expect(reader.next()).toBe(false);
    }
  }
});

test("a header alone is enough to refuse a message", () => {
  const cases: [number, number, RegExp][] = [
    [5, 0, /unknown type 5/],
    [255, 10, /unknown type 255/],
    [TYPE.hello, 7, /hello of 7 bytes/],
    [TYPE.hello, 9, /hello of 9 bytes/],
    [TYPE.frame, 13, /frame of 13 bytes/],
    [TYPE.frame, FRAME_MAX + 1, /frame of 65551 bytes/],
    [TYPE.frame, PAYLOAD_MAX + 1, /131073 bytes, more than 131072/],
    [TYPE.close, 0xffffff, /16777215 bytes/],
    [TYPE.ping, 0, /ping of 0 bytes/],
    [TYPE.pong, 9, /ping of 9 bytes/],
    [TYPE.close, 201, /reason of 201 bytes/],
  ];
  for (const [type, length, words] of cases) {
    const { reader } = readIn(new Uint8Array([type, length >>> 16, length >>> 8, length]), () => 1);
    expect(reader.problem).toMatch(words);
  }
});

test("messages to the byte", () => {
  const bytes = new Uint8Array(300);
  expect([...bytes.subarray(0, writeHello(bytes, 0, 1500))]).toEqual([0, 0, 0, 8, 1, 0, 5, 220, 0, 0, 0, 0]);
  expect(writePing(bytes, 100, TYPE.pong, 0x01020304, 0xfffefdfc)).toBe(12);
  expect([...bytes.subarray(100, 112)]).toEqual([3, 0, 0, 8, 1, 2, 3, 4, 255, 254, 253, 252]);
  expect(readU32(bytes, 108)).toBe(0xfffefdfc);
  expect([...bytes.subarray(0, writeClose(bytes, 0, "né"))]).toEqual([4, 0, 0, 3, 110, 0xc3, 0xa9]);
  expect(writeClose(bytes, 0, "é".repeat(150))).toBe(204);
  expect(writeClose(bytes, 0, `x${"é".repeat(150)}`)).toBe(203); // not half a character
});

test("the queue keeps the newest, in order, whatever their sizes", () => {
  const random = chance(99);
  const queue = new FrameQueue(4096);
  const memory = allocate(8192);
  let model: Uint8Array[] = [];
  let dropped = 0;
  for (let i = 0; i < 30_000; i++) {
    if (random(5) < 3) {
      const length = random(200) === 0 ? 4500 : 14 + random(600);
      const item = message(TYPE.frame, new Uint8Array(length).fill(i));
      memory.bytes.set(item);
      queue.push(memory.address, item.length);
      if (item.length > 4096) {
        dropped++;
      } else {
        model.push(item);
        while (model.reduce((sum, one) => sum + one.length, 0) > 4096) {
          model.shift();
          dropped++;
        }
      }
    } else {
      const room = random(800);
      const n = queue.shift(memory.address + 100, room);
      const oldest = model[0];
      if (oldest !== undefined && oldest.length <= room) {
        expect(Buffer.from(memory.bytes.subarray(100, 100 + n)).equals(oldest)).toBe(true);
        model = model.slice(1);
      } else {
        expect(n).toBe(0);
      }
    }
    expect(queue.bytes).toBe(model.reduce((sum, one) => sum + one.length, 0));
  }
  expect(queue.dropped).toBe(dropped);
  expect(dropped).toBeGreaterThan(100);
});
