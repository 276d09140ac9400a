/** One link against a peer that the test plays: what the link sends, what it refuses, and how it ends. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { libc, POLLIN, POLLOUT } from "../../src/linux/libc.ts";
import { recordPair } from "../../src/linux/socketpair.ts";
import { type ConnectionState, encodeState } from "../../src/ssh/handshake/connection-state.ts";
import { KeyExchange } from "../../src/ssh/handshake/key-exchange.ts";
import { WireWriter } from "../../src/ssh/keys/wire.ts";
import type { LinkStats } from "../../src/tunnel/counters.ts";
import { COUNTER, COUNTERS } from "../../src/tunnel/counters.ts";
import { PumpLink } from "../../src/tunnel/link.ts";
import { FEATURE_ACK, TYPE, writeClose } from "../../src/tunnel/message.ts";
import { type Link, type LinkOptions, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { GROUP_FRAMES } from "../../src/tunnel/receive/guard.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith, LAB } from "../lab/need.ts";
import {
  chance,
  EXPERIMENT,
  frame,
  helloMessage,
  message,
  nextFrame,
  readAll,
  readable,
  readNow,
  Site,
  streamPair,
  writeNow,
} from "./rig.ts";
import { build } from "./super.ts";
import { data, HandEnd, SERVER, states } from "./transport/hand.ts";

const MACHINE = "52:54:00:0a:0b:0c";
const u32 = (n: number): number[] => [n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255];
const PING_BACK = [1, 2, 3, 4, 5, 6, 7, 8];

test("one call of `service` reads at most 64 frames from the TAP", () => {
  // A SOCK_SEQPACKET socket reads and writes like a TAP, one frame at a time. Nobody else uses it here.
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const link = new PumpLink(
    {
      kind: "add",
      id: 1,
      slot: 0,
      tap,
      stream,
      mtu: 1500,
      silence: 1000,
      vnet: false,
      framing: "messages",
      features: 0,
    },
    stats,
    0,
  );
  writeNow(peer, helloMessage());
  link.service(0, POLLIN, 1);
  expect(link.up).toBe(true);
  for (let i = 0; i < 100; i++) expect(writeNow(wire, frame(MACHINE, [...EXPERIMENT, i]))).toBe(15);
  link.service(POLLIN, 0, 2);
  expect(stats[COUNTER.framesOut]).toBe(64);
  link.service(POLLIN, 0, 3);
  expect(stats[COUNTER.framesOut]).toBe(100);
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

test.each([
  ["of one flow", () => 0],
  ["each of another flow, as if each sent little", (i: number) => i],
])("a peer that never acknowledges gets the first window and no more: frames %s", (_, source) => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const order = { id: 1, slot: 0, tap, stream, mtu: 1500, silence: 60_000 };
  const features = FEATURE_ACK;
  const link = new PumpLink({ kind: "add", ...order, vnet: false, framing: "messages", features }, stats, 0);
  writeNow(peer, helloMessage(1500, FEATURE_ACK));
  let got = 0;
  let now = 0;
  const ms = (): void => {
    const host = source(now);
    const address = `52:54:00:${[host >> 8, host & 255, 1].map((n) => n.toString(16).padStart(2, "0")).join(":")}`;
    writeNow(wire, frame(address, [...EXPERIMENT, ...new Uint8Array(1000)]));
    link.tick(++now);
    link.service(POLLIN, POLLIN | POLLOUT, now);
    got += readNow(peer)?.length ?? 0;
  };
  while (now < 3000) ms();
  // 14 KiB, what flows with little to send may send beyond it, one frame that crosses the limit, and PINGs.
  const first = got;
  expect(first).toBeWithin(14 << 10, (14 << 10) + 6000 + 1018 + 200);
  expect(stats[COUNTER.queued]).toBeGreaterThan(500_000);
  const sent = stats[COUNTER.framesOut] ?? 0;
  writeNow(peer, message(TYPE.ack, [...u32(sent * 1018), ...u32(0)]));
  // What is let go then is spread over the round trip, which was the 3 s of these frames at most.
  for (const until = now + 3000; now < until && got - first <= 14 << 10; ) ms();
  expect(got - first).toBeGreaterThan(14 << 10);
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

/** A link over SSH, and the client's end, which the test plays. */
function overSsh(more: Partial<ConnectionState> = {}): { link: PumpLink; hand: HandEnd; end: () => void } {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const [server, client] = states(more);
  const memory = encodeState(server);
  const ssh = { address: memory.address, length: memory.bytes.length };
  const order = { id: 1, slot: 0, tap, stream, mtu: 1500, silence: 60_000, features: 0 };
  const kinds = { vnet: false, framing: "messages" } as const;
  const link = new PumpLink({ kind: "add", ...order, ...kinds, ssh }, new Float64Array(COUNTERS), 0);
  const hand = new HandEnd(peer, client);
  return {
    link,
    hand,
    end: () => {
      link.stopNow({ kind: "stopped", text: "over" });
      libc.close(wire);
      hand.close();
    },
  };
}

test("over SSH, CLOSE waits until the client makes room for it; then both ends close the channel", () => {
  const { link, hand, end } = overSsh({ theirWindow: 12 }); // its hello, and nothing more
  hand.send(data(helloMessage()));
  link.service(0, POLLIN, 1);
  expect(link.up).toBe(true);
  link.stop({ kind: "stopped", text: "enough" });
  const said = (): string =>
    Buffer.concat(hand.heard().map((one) => one.subarray(one[0] === 94 ? 9 : 0))).toString("latin1");
  expect(said()).not.toContain("enough");
  expect(link.over).toBe(false);
  hand.send(new WireWriter().u8(93).u32(SERVER).u32(1000).bytes());
  hand.send(data(Buffer.from("what is under way"))); // nobody reads it
  link.service(0, POLLIN, 3);
  expect(said()).toContain("enough");
  expect(link.over).toBe(false);
  hand.send(Buffer.of(97, 0, 0, 0, SERVER));
  link.service(0, POLLIN, 4);
  expect(link.over).toBe(true);
  expect(link.end?.text).toBe("enough");
  end();
});

test("over SSH, CLOSE also waits for a key exchange, but no longer than a quarter of a second", () => {
  const { link, hand, end } = overSsh();
  hand.send(data(helloMessage()));
  link.service(0, POLLIN, 1);
  const exchange = new KeyExchange(hand.state.session);
  hand.send(exchange.init);
  link.service(0, POLLIN, 2);
  link.stop({ kind: "stopped", text: "enough" });
  const init = hand.heard().find((message) => message[0] === 20);
  expect(init).toBeDefined();
  exchange.begin(init ?? Buffer.alloc(0));
  hand.send(exchange.ask());
  link.service(0, POLLIN, 4);
  const [reply, newKeys] = hand.heard();
  expect([reply?.[0], newKeys?.[0]]).toEqual([31, 21]);
  hand.send(Buffer.of(21));
  hand.rekey(exchange.finish(reply ?? Buffer.alloc(0)));
  link.service(0, POLLIN | POLLOUT, 5);
  expect(Buffer.concat(hand.heard()).toString("latin1")).toContain("enough");
  expect(link.over).toBe(false); // the client has not said that it is done
  link.tick(300);
  expect(link.over).toBe(true);
  end();
});

test("over SSH, a HELLO that came with the state of the connection is handled at the first tick", () => {
  const [server, client] = states();
  const [a, b] = streamPair();
  const hand = new HandEnd(b, client);
  const unread = hand.sealed(data(helloMessage()));
  libc.close(a);
  hand.close();
  const { link, end } = overSsh({ ...server, unread });
  expect(link.up).toBe(false);
  link.tick(1);
  expect(link.up).toBe(true);
  end();
});

test("a peer has 20 s for its HELLO, however short `silence` is: its ssh may still be connecting", () => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const order = { id: 1, slot: 0, tap, stream, mtu: 1500, silence: 3000, features: 0 };
  const link = new PumpLink(
    { kind: "add", ...order, vnet: false, framing: "messages" },
    new Float64Array(COUNTERS),
    0,
  );
  link.tick(19_999);
  expect(link.end).toBeUndefined();
  link.tick(20_000);
  expect(link.end).toEqual({ kind: "silent", text: "the peer was silent for 20.0 s" });
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

test("a turn handles no more than 32 messages of one stream, and the rest in the turns that follow", () => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const order = { id: 1, slot: 0, tap, stream, mtu: 1500, silence: 60_000, vnet: false, features: 0 };
  const link = new PumpLink({ kind: "add", ...order, framing: "messages" }, stats, 0);
  writeNow(peer, helloMessage());
  link.service(0, POLLIN, 1);
  const small = message(TYPE.frame, frame(MACHINE, EXPERIMENT));
  writeNow(peer, Buffer.concat(Array<Uint8Array>(80).fill(small)));
  const took = (): number => {
    let found = 0;
    while ((readNow(wire)?.length ?? 0) > 0) found++;
    return found;
  };
  link.service(0, POLLIN, 2);
  expect(took()).toBe(32);
  // What was read and not handled needs no event of the socket.
  expect(link.tick(3)).toBe(0);
  expect(took()).toBe(32);
  link.service(0, POLLIN, 4);
  link.tick(5);
  expect(took()).toBe(16);
  expect(stats[COUNTER.framesIn]).toBe(80);
  expect(link.tick(6)).toBeGreaterThan(0);
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

test("a super-frame to everybody counts as the frames that it becomes", () => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const order = {
    id: 1,
    slot: 0,
    tap,
    stream,
    mtu: 1500,
    silence: 60_000,
    vnet: true,
    guard: { mac: MACHINE },
  };
  const link = new PumpLink({ kind: "add", ...order, framing: "messages", features: 0 }, stats, 0);
  writeNow(peer, helloMessage());
  link.service(0, POLLIN, 1);
  const datagrams = build({ version: 4, protocol: "udp", data: 1000, segment: 10 });
  datagrams.set(
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...MACHINE.split(":").map((b) => Number.parseInt(b, 16))],
    10,
  );
  for (let i = 0; i < 60; i++) {
    writeNow(peer, message(TYPE.offloaded, datagrams));
    link.service(0, POLLIN, 2);
    readNow(wire);
  }
  expect(stats[COUNTER.framesIn]).toBe(GROUP_FRAMES / 100);
  expect(stats[COUNTER.refused]).toBe(10);
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

test("frames of a guarded peer to group addresses are limited, those to one machine are not", () => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const order = {
    id: 1,
    slot: 0,
    tap,
    stream,
    mtu: 1500,
    silence: 1000,
    vnet: false,
    guard: { mac: MACHINE },
  };
  const link = new PumpLink({ kind: "add", ...order, framing: "messages", features: 0 }, stats, 0);
  writeNow(peer, helloMessage());
  link.service(0, POLLIN, 1);
  const toAll = message(TYPE.frame, frame(MACHINE, EXPERIMENT));
  const toOne = message(TYPE.frame, frame(MACHINE, EXPERIMENT, "52:54:00:00:00:01"));
  const arrived = (bytes: Uint8Array, count: number, now: number): number => {
    let found = 0;
    for (let i = 0; i < count; i += 10) {
      writeNow(peer, Buffer.concat(Array<Uint8Array>(10).fill(bytes)));
      link.service(0, POLLIN, now);
      while ((readNow(wire)?.length ?? 0) > 0) found++;
    }
    return found;
  };
  expect(arrived(toAll, 2 * GROUP_FRAMES, 2)).toBe(GROUP_FRAMES);
  expect(arrived(toOne, 100, 2)).toBe(100);
  expect(stats[COUNTER.refused]).toBe(GROUP_FRAMES);
  expect(arrived(toAll, GROUP_FRAMES, 102)).toBe(GROUP_FRAMES / 10);
  link.stopNow({ kind: "stopped", text: "over" });
  libc.close(wire);
  libc.close(peer);
});

describeWith(LAB, "a link and a peer that the test plays", () => {
  let site: Site;
  let pumps: PumpThread;
  const links: Link[] = [];

  beforeAll(async () => {
    site = await Site.create(1);
    pumps = await PumpThread.start();
  });
  afterAll(async () => {
    await pumps.stop();
    await site[Symbol.asyncDispose]();
  });

  /** A link on a duplicate of the site's file descriptor, so that the TAP outlives the link. */
  function join(options: Partial<LinkOptions> = {}): { link: Link; peer: number } {
    const [stream, peer] = streamPair();
    const tap = libc.fcntl(site.tap, 1030 /* F_DUPFD_CLOEXEC */, 0);
    const link = pumps.add({ tap, stream, mtu: 1500, silence: 20_000, ...options });
    links.push(link);
    return { link, peer };
  }

  /** Read the peer's side until `count` messages of the type have come; their payloads. */
  function expectMessages(peer: number, type: number, count: number): Uint8Array[] {
    const found: Uint8Array[] = [];
    let bytes = Buffer.alloc(0);
    while (found.length < count && readable(peer, 10_000)) {
      const more = readNow(peer);
      if (more === undefined) break;
      bytes = Buffer.concat([bytes, more]);
      while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUIntBE(1, 3)) {
        const end = 4 + bytes.readUIntBE(1, 3);
        if (bytes[0] === type) found.push(bytes.subarray(4, end));
        bytes = bytes.subarray(end);
      }
    }
    return found;
  }

  test("sends HELLO first, answers a PING, passes frames both ways", async () => {
    const { link, peer } = join({ mtu: 1400 });
    expect([...(expectMessages(peer, TYPE.hello, 1)[0] ?? [])]).toEqual([
      1,
      0,
      1400 >> 8,
      1400 & 255,
      0,
      0,
      3, // it acknowledges, and knows lanes
      0,
    ]);
    writeNow(peer, helloMessage());
    await eventually("up", link.up);
    writeNow(peer, message(TYPE.ping, PING_BACK));
    expect([...(expectMessages(peer, TYPE.pong, 1)[0] ?? [])]).toEqual(PING_BACK);
    const sent = frame(MACHINE, [...EXPERIMENT, ...Array<number>(80).fill(7)]);
    writeNow(peer, message(TYPE.frame, sent));
    const ours = (bytes: Uint8Array): boolean => bytes[12] === 0x88 && bytes[13] === 0xb5;
    expect([...(nextFrame(site.probe, ours) ?? [])]).toEqual([...sent]);
    const back = frame("52:54:00:00:00:99", [...EXPERIMENT, 9, 9, ...Array<number>(60).fill(1)]);
    writeNow(site.probe, back);
    let got: Uint8Array | undefined;
    while (got === undefined) got = expectMessages(peer, TYPE.frame, 1).find(ours);
    expect([...got]).toEqual([...back]);
    await eventually("the count", () => link.stats().framesIn, { fits: (frames) => frames === 1 });
    expect(link.stats()).toMatchObject({ framesIn: 1, bytesIn: sent.length, refused: 0 });
    link.stop("test over");
    expect((await eventually("end", link.ended)).text).toBe("test over");
    const rest = await readAll(peer);
    const last = new Uint8Array(204);
    expect(
      Buffer.from(rest)
        .subarray(-13)
        .equals(last.subarray(0, writeClose(last, 0, "test over"))),
    ).toBe(true);
    libc.close(peer);
  });

  test("the MTU is the smaller of both, and at least that of Ethernet", async () => {
    for (const [ours, theirs, agreed] of [
      [9000, 1500, 1500],
      [1500, 9000, 1500],
      [9000, 9000, 9000],
      [9000, 68, 1500],
    ] as const) {
      const { link, peer } = join({ mtu: ours });
      writeNow(peer, helloMessage(theirs));
      expect(await eventually("up", link.up)).toBe(agreed);
      link.stop("over");
      await eventually("end", link.ended);
      libc.close(peer);
    }
  });

  test("frames are acknowledged only to a peer that offered it in its HELLO", async () => {
    for (const features of [0x100, 0]) {
      const { link, peer } = join();
      writeNow(peer, helloMessage(1500, features));
      await eventually("up", link.up);
      const sent = message(TYPE.frame, frame(MACHINE, [...EXPERIMENT, ...Array<number>(80).fill(7)]));
      writeNow(peer, Buffer.concat([sent, sent]));
      if (features !== 0) {
        const ack = Buffer.from(expectMessages(peer, TYPE.ack, 1)[0] ?? []);
        expect(ack.readUInt32BE(0)).toBe(2 * sent.length);
        expect(ack.readUInt32BE(4)).toBeLessThan(10_000_000); // µs, as the machine may be busy
      }
      link.stop("over");
      const rest = Buffer.from(await readAll(peer));
      if (features === 0) {
        for (let at = 0; at < rest.length; at += 4 + rest.readUIntBE(at + 1, 3)) {
          expect(rest[at]).not.toBe(TYPE.ack);
        }
      }
      libc.close(peer);
    }
  });

  const hello = helloMessage();
  const wrongVersion = Uint8Array.from(hello, (byte, i) => (i === 4 ? 2 : byte));
  const malformed: [string, Uint8Array[], RegExp][] = [
    ["unknown type before hello", [message(11, [])], /unknown type 11/],
    ["unknown type after hello", [hello, message(10, [1])], /unknown type 10/],
    ["a frame before hello", [message(TYPE.frame, frame(MACHINE, [0, 0]))], /before its HELLO/],
    ["a ping before hello", [message(TYPE.ping, PING_BACK)], /before its HELLO/],
    ["a second hello", [hello, hello], /second HELLO/],
    ["another version", [wrongVersion], /tunnel protocol version 2, but this end supports only version 1/],
    ["an MTU of 67", [helloMessage(67)], /MTU of 67/],
    ["a short hello", [message(TYPE.hello, [1, 0, 5])], /HELLO of 3 bytes/],
    ["a short frame", [hello, message(TYPE.frame, Array<number>(13).fill(0))], /frame of 13 bytes/],
    ["a frame too long", [hello, new Uint8Array([1, 1, 0, 15])], /frame of 65551 bytes/],
    ["a length beyond all", [hello, new Uint8Array([1, 255, 255, 255])], /more than 131072/],
    ["a ping of 7 bytes", [hello, message(TYPE.ping, Array<number>(7).fill(0))], /PING or PONG of 7 bytes/],
    ["a pong of 9 bytes", [hello, message(TYPE.pong, Array<number>(9).fill(0))], /PING or PONG of 9 bytes/],
    [
      "a reason of 201 bytes",
      [hello, message(TYPE.close, Array<number>(201).fill(65))],
      /CLOSE of 201 bytes/,
    ],
    [
      "offloads that were not agreed on",
      [hello, message(5, Array<number>(60).fill(0))],
      /did not offer offloads/,
    ],
    [
      "an acknowledgement of nothing",
      [hello, message(6, [0, 0, 0, 1, 0, 0, 0, 0])],
      /acknowledged more than was sent/,
    ],
    ["an HTTP request", [Buffer.from("GET / HTTP/1.1\r\n\r\n")], /unknown type 71/],
  ];
  for (const [name, parts, words] of malformed) {
    test(`malformed: ${name}`, async () => {
      const { link, peer } = join();
      writeNow(peer, Buffer.concat(parts));
      const { kind, text } = await eventually("end", link.ended);
      expect(kind).toBe("malformed");
      expect(text).toMatch(words);
      // The peer is told the same.
      expect(Buffer.from(await readAll(peer)).toString("latin1")).toContain(text);
      libc.close(peer);
    });
  }

  test("the reason in a CLOSE is bounded, and made safe for a terminal", async () => {
    const { link, peer } = join();
    writeNow(peer, Buffer.concat([hello, message(TYPE.close, Buffer.from("re\x1b[31mvo\nked\u202e"))]));
    expect((await eventually("end", link.ended)).text).toBe("the peer ended the tunnel: re?[31mvo?ked?");
    libc.close(peer);
    const bare = join();
    writeNow(bare.peer, message(TYPE.close, [0xff, 0xfe]));
    expect((await eventually("end", bare.link.ended)).text).toMatch(/^the peer ended the tunnel: ��$/);
    libc.close(bare.peer);
  });

  test("a stream that the peer closes ends the link", async () => {
    const { link, peer } = join();
    writeNow(peer, hello);
    await eventually("up", link.up);
    libc.close(peer);
    expect((await eventually("end", link.ended)).text).toMatch(/closed|ECONNRESET|EPIPE/);
  });

  test("a stream that ends in the middle of a message has its own reason", async () => {
    const { link, peer } = join();
    // The HELLO is incomplete, so the link sends no frames: bytes that the peer did not read would make its
    // end a reset.
    expectMessages(peer, TYPE.hello, 1);
    writeNow(peer, hello.subarray(0, 7));
    libc.close(peer);
    expect((await eventually("end", link.ended)).text).toBe(
      "the peer closed the stream in the middle of a message",
    );
  });

  test("a silent peer ends the link, one that answers PINGs does not", async () => {
    const never = join({ silence: 150 });
    writeNow(never.peer, hello);
    const end = await eventually("end", never.link.ended);
    expect(end).toEqual({ kind: "silent", text: "the peer was silent for 150 ms" });
    libc.close(never.peer);
    const { link, peer } = join({ silence: 900 });
    writeNow(peer, hello);
    await eventually("up", link.up);
    let ended = false;
    void link.ended.then(() => {
      ended = true;
    });
    // Five answered pings, a third of the silence apart, take longer than the silence that would end it.
    for (let i = 0; i < 5; i++) {
      const ping = expectMessages(peer, TYPE.ping, 1)[0] ?? [];
      writeNow(peer, message(TYPE.pong, ping));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(ended).toBe(false);
    expect(link.stats().rtt).toBeGreaterThan(0);
    expect(link.stats().pings).toBeGreaterThanOrEqual(4);
    expect((await eventually("end", link.ended)).text).toBe("the peer was silent for 900 ms");
    libc.close(peer);
  });

  test("PINGs without answer are counted, even if the peer sends other messages", async () => {
    const { link, peer } = join({ silence: 900 });
    writeNow(peer, hello);
    await eventually("up", link.up);
    let isFirst = true;
    const answer = (): LinkStats => {
      const ping = expectMessages(peer, TYPE.ping, 1)[0] ?? [];
      writeNow(peer, message(TYPE.pong, isFirst ? ping : PING_BACK));
      isFirst = false;
      return link.stats();
    };
    const twoLate = (stats: LinkStats): boolean => stats.late >= 2;
    const { late, pings, loss } = await eventually("two late", answer, { fits: twoLate, every: 0 });
    expect(loss).toBe(late / pings);
    link.stop("done");
    await eventually("end", link.ended);
    libc.close(peer);
  });

  test("a peer that reads nothing: the queue drops frames, memory is bounded, and the link ends", async () => {
    const { link, peer } = join({ silence: 60_000 });
    writeNow(peer, hello);
    await eventually("up", link.up);
    const big = frame(MACHINE, [...EXPERIMENT, ...Array<number>(8000).fill(3)]);
    const before = process.memoryUsage().rss;
    // 80 MB towards a peer that takes none of it.
    for (let i = 0; i < 10_000; i++) {
      writeNow(site.probe, big);
      if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    // On a busy machine the kernel drops most of it before the pump has its turn.
    const more = (): number => {
      for (let i = 0; i < 100; i++) writeNow(site.probe, big);
      return link.stats().dropped;
    };
    await eventually("the queue drops frames", more, { fits: (dropped) => dropped > 0 });
    expect(process.memoryUsage().rss - before).toBeLessThan(20 << 20);
    expect(link.stats().bytesOut).toBeLessThan(2 << 20);
    // Only whole frames were waiting.
    expect(expectMessages(peer, TYPE.frame, 30).length).toBeGreaterThanOrEqual(30);
    link.stop("enough");
    expect((await eventually("end", link.ended)).text).toBe("enough");
    libc.close(peer);

    const stuck = join({ silence: 2000 });
    writeNow(stuck.peer, hello);
    await eventually("up", stuck.link.up);
    for (let i = 0; i < 300; i++) writeNow(site.probe, big);
    const chatter = setInterval(() => writeNow(stuck.peer, message(TYPE.pong, PING_BACK)), 50);
    const end = await eventually("end", stuck.link.ended);
    expect(end).toEqual({ kind: "stalled", text: "nothing could be sent to the peer for 2.0 s" });
    clearInterval(chatter);
    libc.close(stuck.peer);
  });

  test("the answers to a flood of PINGs are bounded", async () => {
    const { link, peer } = join();
    writeNow(peer, hello);
    const pings = Buffer.concat(Array<Uint8Array>(1000).fill(message(TYPE.ping, PING_BACK)));
    let sent = 0;
    const send = (): number => {
      sent += writeNow(peer, pings.subarray(sent % 12));
      return sent;
    };
    await eventually("4 MB of pings are taken", send, { fits: (n) => n >= 4 << 20, every: 0 });
    link.stop("enough");
    const answers = await readAll(peer);
    // Not 4 MB: what the socket and the sender hold, and nothing but whole messages.
    expect(sent).toBeGreaterThanOrEqual(4 << 20);
    expect(answers.length).toBeLessThan(1 << 20);
    let at = 0;
    while (at + 4 <= answers.length) {
      expect(answers[at]).toBeOneOf([TYPE.hello, TYPE.frame, TYPE.ping, TYPE.pong, TYPE.close, TYPE.ack]);
      at += 4 + Buffer.from(answers).readUIntBE(at + 1, 3);
    }
    expect(at).toBe(answers.length);
    expect((await eventually("end", link.ended)).text).toBe("enough");
    libc.close(peer);
  });

  test("random streams never hurt the thread", async () => {
    const random = chance(31337);
    for (let i = 0; i < 300; i++) {
      const { link, peer } = join();
      const junk = new Uint8Array(1 + random(300)).map(() => random(random(3) === 0 ? 8 : 256));
      writeNow(peer, random(2) === 0 ? Buffer.concat([hello, junk]) : junk);
      libc.close(peer);
      expect((await eventually("end", link.ended)).text).not.toMatch(/fault/);
    }
    const { link, peer } = join();
    writeNow(peer, hello);
    await eventually("up", link.up);
    libc.close(peer);
    await eventually("end", link.ended);
  });

  test("a TAP that is down loses frames, and works again when it is up", async () => {
    const { link, peer } = join();
    writeNow(peer, hello);
    await eventually("up", link.up);
    await site.ip("link set tunnel down");
    const sent = frame(MACHINE, [...EXPERIMENT, ...Array<number>(60).fill(4)]);
    writeNow(peer, Buffer.concat([message(TYPE.frame, sent), message(TYPE.ping, PING_BACK)]));
    expectMessages(peer, TYPE.pong, 1); // comes after the frame was tried, but may come before it was counted
    await eventually("the count", () => link.stats().dropped, { fits: (dropped) => dropped === 1 });
    expect(link.stats()).toMatchObject({ framesIn: 0, dropped: 1 });
    await site.ip("link set tunnel up");
    writeNow(peer, message(TYPE.frame, sent));
    expect(nextFrame(site.probe, (bytes) => bytes[12] === 0x88 && bytes[13] === 0xb5)).toBeDefined();
    link.stop("over");
    await eventually("end", link.ended);
    libc.close(peer);
  });

  test("a link that cannot be made is refused, and no file descriptor stays open", async () => {
    const [a, b] = streamPair();
    const tap = libc.fcntl(site.tap, 1030, 0);
    expect(() => pumps.add({ tap, stream: a, mtu: 1500, silence: 1000, guard: { mac: "nonsense" } })).toThrow(
      /MAC/,
    );
    expect(readNow(b)).toBeUndefined();
    libc.close(b);
    const closed = join({ tap: 9999 });
    expect((await eventually("end", closed.link.ended)).text).toBe("the TAP no longer exists");
    libc.close(closed.peer);
  });

  // This test is the last, because it deletes the TAP.
  test("deleting the TAP ends the link, and the peer is told", async () => {
    const { link, peer } = join();
    writeNow(peer, hello);
    await eventually("up", link.up);
    await site.ip("link delete tunnel");
    expect((await eventually("end", link.ended)).text).toBe("the TAP no longer exists");
    expect(Buffer.from(await readAll(peer)).toString("latin1")).toContain("the TAP no longer exists");
    libc.close(peer);
  });
});
