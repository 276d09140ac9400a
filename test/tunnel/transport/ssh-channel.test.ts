/**
 * A channel that the pump has for itself: bytes as they are, windows, new keys, and a peer that sends what it
 * may not.
 */

import { afterEach, expect, spyOn, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { allocate } from "../../../src/linux/libc.ts";
import { AesGcm } from "../../../src/linux/libcrypto.ts";
import { type ConnectionState, encodeState } from "../../../src/ssh/handshake/connection-state.ts";
import { KeyExchange } from "../../../src/ssh/handshake/key-exchange.ts";
import { OVERHEAD, PACKET_MAX } from "../../../src/ssh/handshake/packet-cipher.ts";
import { WireReader, WireWriter } from "../../../src/ssh/keys/wire.ts";
import { COUNTERS } from "../../../src/tunnel/counters.ts";
import { PumpLink } from "../../../src/tunnel/link.ts";
import type { AddOrder } from "../../../src/tunnel/pump-protocol.ts";
import { ChannelStream } from "../../../src/tunnel/transport/ssh-channel.ts";
import { eventually } from "../../lab/eventually.ts";
import { Held, MANY, until } from "../../ssh/server/taken.ts";
import { chance, streamPair, writeNow } from "../rig.ts";
import { CLIENT, data, HandEnd, SERVER, states, WINDOW } from "./hand.ts";

const cleanup: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of cleanup.splice(0).reverse()) await end();
});

function held(fd: number, state: ConnectionState, keysFor = MANY): Held {
  const made = new Held(new ChannelStream(fd, state, keysFor));
  cleanup.push(() => made.close());
  return made;
}

/** A client by hand, and the server's stream, which moves only when the test says so. */
class Hand extends HandEnd {
  readonly server: Held;

  constructor(more: Partial<ConnectionState> = {}) {
    const [ours, theirs] = streamPair();
    const [server, client] = states(more);
    super(theirs, client);
    this.server = held(ours, server);
    cleanup.push(() => this.close());
  }

  /** What the server's stream has read by now, until nothing more comes; undefined at its end. */
  read(): Buffer | undefined {
    const parts: Uint8Array[] = [];
    for (let part = this.server.read(); ; part = this.server.read()) {
      if (part === undefined) return undefined;
      if (part.length === 0) return Buffer.concat(parts);
      parts.push(part);
    }
  }
}

test("bytes both ways at once, cut at random places, with new keys every 300 kB that the client asks for", async () => {
  const finished = spyOn(KeyExchange.prototype, "finish");
  cleanup.push(() => finished.mockRestore());
  const before = finished.mock.calls.length;
  const random = chance(3);
  const [a, b] = streamPair();
  const [server, client] = states();
  const ends = [held(a, server), held(b, client, 300_000)] as const;
  const sent = [randomBytes(4 << 20), randomBytes(4 << 20)] as const;
  const done = [0, 0];
  const got: Uint8Array[][] = [[], []];
  const bytes = (way: 0 | 1): number => got[way]?.reduce((sum, part) => sum + part.length, 0) ?? 0;
  const pass = (): number[] => {
    for (const way of [0, 1] as const) {
      const from = done[way] ?? 0;
      done[way] = from + ends[way].write(sent[way].subarray(from, from + 1 + random(150_000)));
      const part = ends[way].read();
      if (part === undefined) throw new Error(ends[way].end);
      got[way]?.push(part);
    }
    return [bytes(0), bytes(1)];
  };
  const all = (counts: number[]): boolean => counts.every((count) => count >= 4 << 20);
  await eventually("all bytes are passed", pass, { fits: all, every: 0 });
  expect(Buffer.concat(got[0] ?? []).equals(sent[1])).toBe(true);
  expect(Buffer.concat(got[1] ?? []).equals(sent[0])).toBe(true);
  expect(finished.mock.calls.length - before).toBeGreaterThan(10);
});

test("a client gets its window and not a byte more, in packets of its size; what it makes room for, then", () => {
  const hand = new Hand({ theirWindow: 100_000, theirPacket: 5000 });
  const { server } = hand;
  let sent = 0;
  const lengths: number[] = [];
  const take = (): void => {
    for (const message of hand.heard()) lengths.push(new WireReader(message.subarray(5)).u32());
  };
  for (let i = 0; i < 100; i++) {
    sent += server.write(new Uint8Array(30_000));
    take();
  }
  expect(sent).toBe(100_000);
  expect(server.stream.blocked).toBe(true);
  expect(lengths).toEqual(Array(20).fill(5000));
  hand.send(new WireWriter().u8(93).u32(SERVER).u32(700).bytes());
  expect(hand.read()?.length).toBe(0);
  expect(server.stream.blocked).toBe(false);
  expect(server.write(new Uint8Array(30_000))).toBe(700);
  hand.send(new WireWriter().u8(93).u32(SERVER).u32(0xffff_ffff).bytes());
  hand.send(new WireWriter().u8(93).u32(SERVER).u32(0xffff_ffff).bytes());
  expect(hand.read()?.length).toBe(0);
  expect(server.write(new Uint8Array(10))).toBe(10);
});

test("the window is opened again each 96 KB or so, and no further than it was", () => {
  const hand = new Hand();
  let opened = 0;
  for (let i = 0; i < 200; i++) {
    hand.send(data(new Uint8Array(30_000)));
    expect(hand.read()?.length).toBe(30_000);
    for (const message of hand.heard()) {
      expect(message[0]).toBe(93);
      opened += message.readUInt32BE(5);
    }
    expect((i + 1) * 30_000 - opened).toBeWithin(0, 98_304 + 30_000);
  }
});

test("a socket that takes nothing: what was promised waits, nothing more is taken, and nothing is lost", () => {
  const hand = new Hand();
  const { server } = hand;
  const bytes = randomBytes(WINDOW);
  let sent = 0;
  for (let n = 1; n > 0; sent += n) n = server.write(bytes.subarray(sent));
  expect(server.stream.pending).toBe(true);
  expect(sent).toBeLessThan(1 << 20);
  const got: Uint8Array[] = [];
  for (let length = 0; length < WINDOW; ) {
    for (const message of hand.heard()) {
      got.push(message.subarray(9));
      length += message.length - 9;
    }
    server.stream.flush();
    sent += server.write(bytes.subarray(sent));
  }
  expect(Buffer.concat(got).equals(bytes)).toBe(true);
});

test("one channel is all there is; every question gets its no, and signs of life their answer", () => {
  const hand = new Hand();
  hand.send(new WireWriter().u8(90).string("session").u32(7).u32(1000).u32(1000).bytes());
  hand.send(new WireWriter().u8(80).string("tcpip-forward").u8(1).string("").u32(0).bytes());
  hand.send(new WireWriter().u8(80).string("no-more-sessions@openssh.com").u8(0).bytes());
  hand.send(new WireWriter().u8(98).u32(SERVER).string("pty-req").u8(1).bytes());
  hand.send(new WireWriter().u8(98).u32(SERVER).string("window-change").u8(0).bytes());
  for (const idle of [2, 3, 4, 81, 82, 99, 100]) hand.send(Buffer.of(idle, 0, 0, 0, SERVER));
  hand.send(data(Buffer.from("still here")));
  expect(hand.read()?.toString()).toBe("still here");
  const answers = hand.heard();
  expect(answers.map((message) => message[0])).toEqual([92, 82, 100]);
  expect(answers[0]?.readUInt32BE(1)).toBe(7);
  hand.server.stream.ask();
  const [question] = hand.heard();
  expect(question?.toString("latin1")).toContain("keepalive@openssh.com");
});

test("an unknown message is answered with the number of its packet, which new keys count from 0 again", () => {
  const hand = new Hand({ received: 7 });
  hand.send(data(Buffer.from("one")));
  hand.send(Buffer.of(200));
  hand.send(data(Buffer.from("two")));
  expect(hand.read()?.toString()).toBe("onetwo");
  expect(hand.heard()).toEqual([Buffer.of(3, 0, 0, 0, 8)]);
  const exchange = new KeyExchange(hand.state.session);
  hand.send(exchange.init);
  hand.read();
  const [init] = hand.heard();
  exchange.begin(init ?? Buffer.of());
  hand.send(exchange.ask());
  hand.read();
  const [reply] = hand.heard();
  const keys = exchange.finish(reply ?? Buffer.of());
  hand.send(Buffer.of(21));
  hand.rekey(keys);
  hand.send(Buffer.of(201));
  expect(hand.read()?.length).toBe(0);
  expect(hand.heard()).toEqual([Buffer.of(3, 0, 0, 0, 0)]);
});

test("the end: the server says how it went, and waits for the client's", () => {
  const hand = new Hand();
  expect(hand.server.stream.close()).toBe(false);
  expect(hand.heard().map((message) => message[0])).toEqual([98, 96, 97]);
  expect(hand.server.write(Buffer.of(1))).toBe(0);
  hand.send(data(new Uint8Array(1000))); // still under way
  expect(hand.read()?.length).toBe(1000);
  expect(hand.server.stream.close()).toBe(false);
  hand.send(Buffer.of(96, 0, 0, 0, SERVER));
  expect(hand.read()?.length).toBe(0);
  hand.send(Buffer.of(97, 0, 0, 0, SERVER));
  expect(hand.read()).toBeUndefined();
  expect(hand.server.stream.close()).toBe(true);
});

test("the client's end: what came before is read, then the stream ends", () => {
  const hand = new Hand();
  hand.send(data(Buffer.from("last words")));
  hand.send(Buffer.of(96, 0, 0, 0, SERVER));
  expect(Buffer.from(hand.server.read() ?? []).toString()).toBe("last words");
  expect(hand.server.stream.more).toBe(true);
  expect(hand.server.read()).toBeUndefined();
  expect(hand.server.end).toBe("end");
});

test("what the server says on standard error is why it ended", () => {
  const [a, b] = streamPair();
  const [server, client] = states();
  const hand = new HandEnd(a, server);
  cleanup.push(() => hand.close());
  const end = held(b, client);
  hand.send(new WireWriter().u8(95).u32(CLIENT).u32(1).string("walt: no room\u001b[31m\r\n").bytes());
  hand.send(Buffer.of(97, 0, 0, 0, CLIENT));
  expect(end.read()).toBeUndefined();
  expect(end.end).toStartWith("walt: no room");
  expect(end.end).not.toContain("\u001b");
});

test("on the server nobody listens to standard error, however much comes", () => {
  const hand = new Hand();
  for (let i = 0; i < 3; i++) {
    hand.send(new WireWriter().u8(95).u32(SERVER).u32(1).string("walt: nonsense").bytes());
  }
  hand.send(data(Buffer.from("hello")));
  expect(hand.read()?.toString()).toBe("hello");
  hand.send(Buffer.of(97, 0, 0, 0, SERVER));
  expect(hand.read()).toBeUndefined();
  expect(hand.server.end).toBe("end");
});

test("an answer waits until a key exchange is over; other MACs do not matter, as there are none", () => {
  const hand = new Hand();
  const exchange = new KeyExchange(hand.state.session);
  const macs = exchange.init
    .toString("latin1")
    .replaceAll("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com");
  const init = Buffer.from(macs, "latin1");
  hand.server.stream.ask();
  expect(hand.read()?.length).toBe(0);
  expect(hand.heard().map((message) => message[0])).toEqual([80]);
  hand.send(init);
  expect(hand.read()?.length).toBe(0);
  expect(hand.heard().map((message) => message[0])).toEqual([20]);
  expect(hand.server.stream.blocked).toBe(true);
  hand.server.stream.ask();
  expect(hand.server.stream.close()).toBe(false);
  expect(hand.heard()).toEqual([]);
  hand.send(exchange.ask());
  expect(hand.read()?.length).toBe(0);
  expect(hand.heard().map((message) => message[0])).toEqual([31, 21]);
  expect(hand.server.stream.blocked).toBe(false);
});

test("a question in an exchange that we began is answered after it", () => {
  const [a, b] = streamPair();
  const [server, client] = states();
  const ends = [held(a, server), held(b, client, 1000)] as const;
  expect(ends[1].write(new Uint8Array(2000))).toBe(2000);
  ends[0].read();
  // The client is about to ask for new keys when the server asks whether it lives.
  ends[1].write(Buffer.of(1));
  ends[0].stream.ask();
  for (let i = 0; i < 10; i++) for (const end of ends) expect(end.read()).toBeDefined();
  expect(ends[1].stream.rekeys).toBeGreaterThan(0);
  expect(ends[0].stream.rekeys).toBe(ends[1].stream.rekeys);
});

test("a turn opens a bounded number of packets, and the rest comes in the next ones, in order", () => {
  const hand = new Hand();
  const { server } = hand;
  const ignore = Buffer.of(2, 0, 0, 0, 0);
  const packets = Array.from({ length: 2000 }, () => hand.sealed(ignore));
  hand.raw(Buffer.concat([...packets, hand.sealed(data(Buffer.from("behind them")))]));
  let turns = 0;
  for (;;) {
    const before = server.stream.more;
    const part = server.read();
    turns++;
    if (Buffer.from(part ?? []).toString() === "behind them") break;
    expect([part?.length, turns === 1 || before]).toEqual([0, true]);
    expect(turns).toBeLessThan(20);
  }
  expect(turns).toBeWithin(4, 20);
  expect(server.stream.more).toBe(false);
  hand.send(data(Buffer.from("and on")));
  expect(hand.read()?.toString()).toBe("and on");
});

test("bytes that nobody has sealed are no sign of life", () => {
  const hand = new Hand();
  const { stream } = hand.server;
  const before = stream.heard;
  hand.raw(Buffer.of(0, 0, 0, 32, 1, 2, 3));
  hand.read();
  expect(stream.heard).toBe(before);
});

test.each<[string, (hand: Hand) => Uint8Array]>([
  ["bytes of anybody's", () => new Uint8Array(100_000).fill(0x41)],
  [
    "a forged packet",
    (hand) => Buffer.concat([changed(hand.sealed(data(Buffer.of(1)))), new Uint8Array(100_000).fill(0x41)]),
  ],
  [
    "an end",
    (hand) =>
      Buffer.concat([hand.sealed(Buffer.of(96, 0, 0, 0, SERVER)), new Uint8Array(100_000).fill(0x41)]),
  ],
  [
    "a close",
    (hand) =>
      Buffer.concat([hand.sealed(Buffer.of(97, 0, 0, 0, SERVER)), new Uint8Array(100_000).fill(0x41)]),
  ],
])("much behind %s stays where it belongs", (_, bytes) => {
  // A buffer for parts of packets that was used before, and what may be its neighbours.
  const first = new Hand();
  first.raw(Buffer.of(0, 0, 0, 32, 1, 2, 3));
  first.read();
  first.server.close();
  const near = Array.from({ length: 64 }, () => allocate(PACKET_MAX + OVERHEAD));
  const hand = new Hand();
  hand.raw(bytes(hand));
  expect(hand.read()).toBeUndefined();
  hand.server.stream.close();
  expect(hand.read()).toBeUndefined();
  expect(near.filter((memory) => memory.bytes.includes(0x41))).toEqual([]);
});

test("data behind the end are refused", () => {
  const hand = new Hand();
  hand.send(Buffer.of(96, 0, 0, 0, SERVER));
  hand.send(data(Buffer.from("more")));
  expect(hand.read()).toBeUndefined();
  expect(hand.server.end).toMatch(/data after its end/);
});

test("room that could not be told while nothing left is told when it does", () => {
  const question = new WireWriter().u8(80).string("x").u8(1).bytes();
  /**
   * A server whose socket takes no more, and so many questions of the client's; how many were listened to.
   */
  const full = (questions: number): { hand: Hand; heard: number } => {
    const hand = new Hand();
    for (let n = 1; n > 0; ) n = hand.server.write(new Uint8Array(100_000));
    let heard = 0;
    for (; heard < questions && hand.read() !== undefined; heard++) hand.send(question);
    return { hand, heard };
  };
  const { heard } = full(100_000);
  expect(heard).toBeLessThan(100_000);
  const { hand } = full(heard - 5);
  const { server } = hand;
  for (let i = 0; i < 20; i++) {
    hand.send(data(new Uint8Array(32_000)));
    expect(hand.read()?.length).toBe(32_000);
  }
  let opened = 0;
  for (let i = 0; i < 20; i++) {
    for (const message of hand.heard()) if (message[0] === 93) opened += message.readUInt32BE(5);
    server.stream.flush();
  }
  expect(opened).toBeGreaterThan(20 * 32_000 - 98_304 - 1);
});

const twice = (bytes: Uint8Array): Uint8Array => Buffer.concat([bytes, bytes]);
const changed = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 20 ? byte ^ 4 : byte));

test.each<[string, (hand: Hand) => void, RegExp]>([
  [
    "a packet that was changed on its way",
    (hand) => hand.raw(changed(hand.sealed(data(Buffer.of(1))))),
    /forged/,
  ],
  ["a packet that comes twice", (hand) => hand.raw(twice(hand.sealed(data(Buffer.of(1))))), /forged/],
  ["a length that cannot be", (hand) => hand.raw(Buffer.alloc(64, 255)), /a length that cannot be/],
  ["data for another channel", (hand) => hand.send(data(Buffer.of(1), 99)), /another channel/],
  ["room for another channel", (hand) => hand.send(Buffer.alloc(9, 93)), /another channel/],
  [
    "data that say another length",
    (hand) => hand.send(Buffer.of(94, 0, 0, 0, SERVER, 0, 0, 9, 0, 1)),
    /another length/,
  ],
  ["half a header", (hand) => hand.send(Buffer.of(94, 0, 0)), /another channel/],
  ["half a request", (hand) => hand.send(Buffer.of(98, 0)), /too short/],
  ["an end of another channel", (hand) => hand.send(Buffer.of(97, 0, 0, 0, 77)), /for channel 77/],
  ["a message of authentication", (hand) => hand.send(Buffer.of(50)), /message 50/],
  ["new keys out of the blue", (hand) => hand.send(Buffer.of(21)), /nobody asked for/],
  ["a point without a key exchange", (hand) => hand.send(Buffer.of(30)), /nobody began/],
  ["an answer that only clients get", (hand) => hand.send(Buffer.of(31)), /nobody began/],
  ["a malformed KEXINIT", (hand) => hand.send(Buffer.alloc(30, 20)), /malformed/],
  [
    "data in a key exchange",
    (hand) => {
      hand.send(new KeyExchange(hand.state.session).init);
      hand.send(data(Buffer.of(1)));
    },
    /message 94 in a key exchange/,
  ],
  [
    "a point that gives no secret",
    (hand) => {
      hand.send(new KeyExchange(hand.state.session).init);
      hand.send(new WireWriter().u8(30).string(Buffer.alloc(32)).bytes());
    },
    /not SSH/,
  ],
  [
    "algorithms that are not ours",
    (hand) => {
      const lists = new WireWriter().u8(20).raw(Buffer.alloc(16));
      for (let i = 0; i < 10; i++) lists.string("none");
      hand.send(lists.u8(0).u32(0).bytes());
    },
    /none of curve25519/,
  ],
])("%s ends the stream, with a reason", (_, misbehave, reason) => {
  const hand = new Hand();
  misbehave(hand);
  expect(hand.read()).toBeUndefined();
  expect(hand.server.end).toMatch(reason);
});

test("a client that sends more than its window is not read any more", () => {
  const hand = new Hand({ ourWindow: 1000 });
  hand.send(data(new Uint8Array(1001)));
  expect(hand.read()).toBeUndefined();
  expect(hand.server.end).toMatch(/more than its window/);
});

test("who asks without end and takes no answers is not listened to for ever", () => {
  const hand = new Hand();
  const question = new WireWriter().u8(80).string("x").u8(1).bytes();
  for (let i = 0; i < 200_000 && hand.read() !== undefined; i++) hand.send(question);
  expect(hand.server.end).toMatch(/more questions/);
});

test("a fuzz run of messages: a reason, an end or nothing, and never anything else", () => {
  const random = chance(77);
  const types = [1, 2, 20, 21, 30, 31, 80, 90, 93, 94, 95, 96, 97, 98];
  for (let round = 0; round < 300; round++) {
    const hand = new Hand();
    for (let i = 0; i < 20 && hand.read() !== undefined; i++) {
      const bytes = randomBytes(1 + random(60));
      bytes[0] = types[random(types.length)] ?? 94;
      if (random(2) === 0) bytes.set([0, 0, 0, SERVER].slice(0, bytes.length - 1), 1);
      hand.send(bytes);
    }
    hand.read();
    expect(hand.server.end ?? "end").toMatch(/^end$|^the peer /);
    for (const end of cleanup.splice(0).reverse()) end();
  }
});

test("what lies behind the state is read first", async () => {
  const [server, client] = states();
  const [a, b] = streamPair();
  const hand = new HandEnd(b, client);
  cleanup.push(() => hand.close());
  const all = randomBytes(600_000);
  const packets = Array.from({ length: 20 }, (_, i) =>
    hand.sealed(data(all.subarray(30_000 * i, 30_000 * (i + 1)))),
  );
  const sealed = Buffer.concat(packets);
  const end = held(a, { ...server, unread: sealed.subarray(0, 400_001) });
  expect(end.stream.more).toBe(true);
  const got: Uint8Array[] = [];
  let written = 400_001;
  await until("all of it", () => {
    written += writeNow(b, sealed.subarray(written));
    got.push(end.read() ?? new Uint8Array());
    return Buffer.concat(got).length === all.length;
  });
  expect(Buffer.concat(got).equals(all)).toBe(true);
});

test("a connection that cannot go on in the pump gives back the ciphers that it has already", () => {
  const free = spyOn(AesGcm.prototype, "free");
  cleanup.push(() => free.mockRestore());
  const [state] = states();
  const outgoing = { ...state.outgoing, key: new Uint8Array(15) };
  expect(() => new ChannelStream(-1, { ...state, outgoing }, MANY)).toThrow("a key of 15 bytes");
  expect(free).toHaveBeenCalledTimes(1);
  const memory = encodeState(state);
  const ssh = { address: memory.address, length: memory.bytes.length };
  const order: AddOrder = {
    kind: "add",
    framing: "messages",
    ...{ id: 1, slot: 0, tap: -1, stream: -1, mtu: 1500, silence: 1000, features: 0, vnet: false },
    ...{ guard: { mac: "no MAC address" }, ssh },
  };
  expect(() => new PumpLink(order, new Float64Array(COUNTERS), 0)).toThrow("MAC");
  expect(free).toHaveBeenCalledTimes(3);
});
