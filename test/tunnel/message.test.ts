import { expect, test } from "bun:test";
import { readU32 } from "../../src/bytes.ts";
import { FRAMINGS } from "../../src/tunnel/framing.ts";
import { FRAME_MAX, PAYLOAD_MAX, TYPE, writeClose, writeHello, writePair } from "../../src/tunnel/message.ts";
import { MessageReader } from "../../src/tunnel/receive/message-reader.ts";
import { chance, message } from "./rig.ts";

const LENGTHS: Record<number, (random: (below: number) => number) => number> = {
  [TYPE.hello]: () => 8,
  [TYPE.frame]: (random) => 14 + random(random(10) === 0 ? FRAME_MAX - 13 : 1500),
  [TYPE.ping]: () => 8,
  [TYPE.pong]: () => 8,
  [TYPE.close]: (random) => random(201),
  [TYPE.offloaded]: (random) => 24 + random(random(10) === 0 ? PAYLOAD_MAX - 23 : 1500),
  [TYPE.ack]: () => 8,
};

/** Put bytes into a reader in pieces and take out what it finds. */
function readIn(stream: Uint8Array, piece: () => number): { found: Uint8Array[]; reader: MessageReader } {
  const reader = new MessageReader(FRAMINGS.messages, 1500);
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
    reader.giveBack();
  }
  return { found, reader };
}

test("any stream of messages, cut anywhere, gives the same messages", () => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = chance(seed * 7919);
    const messages = Array.from({ length: 1 + random(60) }, () => {
      const type = random(7);
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

test("a reader between two messages gives its buffer back; one in the middle of a message keeps it", () => {
  const [first, second, third] = [
    new MessageReader(FRAMINGS.messages, 1500),
    new MessageReader(FRAMINGS.messages, 1500),
    new MessageReader(FRAMINGS.messages, 1500),
  ];
  const whole = message(TYPE.frame, new Uint8Array(60).fill(1));
  const put = (reader: MessageReader, bytes: Uint8Array): void => {
    reader.memory.bytes.set(bytes, reader.end);
    reader.filled(bytes.length);
  };
  put(first, whole.subarray(0, 40));
  expect(first.next()).toBe(false);
  first.giveBack();
  for (let i = 0; i < 3; i++) {
    put(second, message(TYPE.frame, new Uint8Array(60).fill(2)));
    expect([second.next(), second.next()]).toEqual([true, false]);
    const { memory } = second;
    second.giveBack();
    expect(third.memory).toBe(memory);
    third.giveBack();
  }
  put(first, whole.subarray(40));
  expect(first.next()).toBe(true);
  expect(first.memory.bytes.subarray(first.offset, first.offset + first.length)).toEqual(
    Uint8Array.from(whole.subarray(4)),
  );
});

test("random bytes: the reader finds a problem or waits for more, and never writes beyond its memory", () => {
  const random = chance(4711);
  for (let i = 0; i < 3000; i++) {
    const stream = new Uint8Array(random(400)).map(() => random(random(2) === 0 ? 7 : 256));
    const { reader } = readIn(stream, () => 1 + random(64));
    expect(reader.room).toBeGreaterThanOrEqual(0);
    if (reader.problem !== undefined) {
      expect(reader.problem).toMatch(/ bytes|unknown type/);
      expect(reader.next()).toBe(false);
    }
  }
});

test("a header alone is enough to refuse a message", () => {
  const cases: [number, number, RegExp][] = [
    [10, 0, /unknown type 10/],
    [255, 10, /unknown type 255/],
    [TYPE.hello, 7, /HELLO of 7 bytes/],
    [TYPE.hello, 9, /HELLO of 9 bytes/],
    [TYPE.frame, 13, /frame of 13 bytes/],
    [TYPE.frame, FRAME_MAX + 1, /frame of 65551 bytes/],
    [TYPE.frame, PAYLOAD_MAX + 1, /131073 bytes, more than 131072/],
    [TYPE.close, 0xffffff, /16777215 bytes/],
    [TYPE.offloaded, 23, /offloaded frame of 23 bytes/],
    [TYPE.ack, 7, /ACK of 7 bytes/],
    [TYPE.ping, 0, /PING or PONG of 0 bytes/],
    [TYPE.pong, 9, /PING or PONG of 9 bytes/],
    [TYPE.close, 201, /CLOSE of 201 bytes/],
  ];
  for (const [type, length, words] of cases) {
    const { reader } = readIn(new Uint8Array([type, length >>> 16, length >>> 8, length]), () => 1);
    expect(reader.problem).toMatch(words);
  }
});

test("messages to the byte", () => {
  const bytes = new Uint8Array(300);
  expect([...bytes.subarray(0, writeHello(bytes, 0, 1500))]).toEqual([0, 0, 0, 8, 1, 0, 5, 220, 0, 0, 0, 0]);
  expect(writePair(bytes, 100, TYPE.pong, 0x01020304, 0xfffefdfc)).toBe(12);
  expect([...bytes.subarray(100, 112)]).toEqual([3, 0, 0, 8, 1, 2, 3, 4, 255, 254, 253, 252]);
  expect(readU32(bytes, 108)).toBe(0xfffefdfc);
  expect([...bytes.subarray(0, writeClose(bytes, 0, "né"))]).toEqual([4, 0, 0, 3, 110, 0xc3, 0xa9]);
  expect(writeClose(bytes, 0, "é".repeat(150))).toBe(204);
  expect(writeClose(bytes, 0, `x${"é".repeat(150)}`)).toBe(203); // not half a character
});
