/** The other channels of a tunnel's connection: their messages go to the main thread and come from it, within bounds. */

import { afterEach, expect, test } from "bun:test";
import { libc } from "../../src/linux/libc.ts";
import { recordPair } from "../../src/linux/socketpair.ts";
import { encodeState } from "../../src/ssh/handshake/connection-state.ts";
import { MESSAGE } from "../../src/ssh/handshake/message-numbers.ts";
import { WireWriter } from "../../src/ssh/keys/wire.ts";
import { COUNTERS, TAKEN } from "../../src/tunnel/counters.ts";
import { PumpLink } from "../../src/tunnel/link.ts";
import { decodeOrder, encodeOrder, type ThreadEvent } from "../../src/tunnel/pump-protocol.ts";
import { ChannelMessages, MESSAGE_COST } from "../../src/tunnel/send/channel-messages.ts";
import { streamPair } from "./rig.ts";
import { data, HandEnd, SERVER, states } from "./transport/hand.ts";

const OTHER = 1000;
const cleanup: (() => void)[] = [];
afterEach(() => {
  for (const end of cleanup.splice(0).reverse()) end();
});

/** The server's link, and the client's end, which the test plays. */
function linkAndHand(channels = true) {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const [server, client] = states();
  const memory = encodeState(server);
  const ssh = { address: memory.address, length: memory.bytes.length };
  const order = { id: 7, slot: 0, tap, stream, mtu: 1500, silence: 60_000, features: 0, channels };
  const told: ThreadEvent[] = [];
  const stats = new Float64Array(COUNTERS);
  const kinds = { kind: "add", vnet: false, framing: "messages" } as const;
  const link = new PumpLink({ ...kinds, ...order, ssh }, stats, 0, (event) => told.push(event));
  const hand = new HandEnd(peer, client);
  cleanup.push(() => {
    link.stopNow({ kind: "stopped", text: "over" });
    libc.close(wire);
    hand.close();
  });
  let now = 1;
  /** One turn of the pump. */
  const turn = (ms = 1): void => {
    now += ms;
    link.tick(now);
    link.service(0, 1, now);
  };
  return { link, hand, told, stats, turn };
}

const passed = (told: ThreadEvent[]): Uint8Array[] =>
  told.flatMap((event) => (event.kind === "message" ? [event.payload] : []));
const adjust = (channel: number): Uint8Array =>
  new WireWriter().u8(MESSAGE.windowAdjust).u32(channel).u32(1).bytes();
const open = new WireWriter().u8(MESSAGE.channelOpen).string("session").u32(OTHER).u32(9).u32(9).bytes();

test("what is for another channel goes to the main thread as it is, what is for the tunnel does not", () => {
  const { link, hand, told, turn } = linkAndHand();
  const others = [open, data(Buffer.from("hello"), OTHER), adjust(OTHER), data(Buffer.from(""), OTHER)];
  for (const message of others) {
    hand.send(message);
    hand.send(adjust(SERVER));
    turn();
  }
  expect(passed(told).map((one) => Buffer.from(one))).toEqual(others.map((one) => Buffer.from(one)));
  expect(link.end).toBeUndefined();
});

test("a link whose peer gets no other channel refuses to open one, and ends at a message for one", () => {
  const { link, hand, told, turn } = linkAndHand(false);
  hand.send(open);
  turn();
  expect(hand.heard().map((message) => message[0])).toContain(MESSAGE.openFailure);
  expect(link.end).toBeUndefined();
  hand.send(data(Buffer.from("x"), OTHER));
  turn();
  expect(link.end?.kind).toBe("malformed");
  expect(passed(told)).toEqual([]);
});

test("a message from the main thread leaves, and that is told", () => {
  const { link, hand, told, turn } = linkAndHand();
  turn();
  hand.heard();
  const message = data(Buffer.from("an order"), 5);
  link.send(message);
  turn();
  expect(hand.heard().some((one) => one.equals(message))).toBe(true);
  expect(told).toContainEqual({ kind: "messages-left", id: 7, bytes: message.length + MESSAGE_COST });
});

test("a peer that sends more than the main thread takes is ended; one whose messages are taken is not", () => {
  const message = data(new Uint8Array(4000), OTHER);
  const flood = (taken: boolean): string | undefined => {
    const { link, hand, stats, told, turn } = linkAndHand();
    for (let i = 0; i < 2000 && link.end === undefined; i++) {
      hand.send(message);
      turn();
      hand.heard();
      if (taken) stats[TAKEN] = passed(told).reduce((sum, one) => sum + one.length + MESSAGE_COST, 0);
    }
    return link.end?.text;
  };
  expect(flood(false)).toContain("more on other channels than their windows allow");
  expect(flood(true)).toBeUndefined();
});

test("a main thread that sends more than the peer takes ends the link", () => {
  const { link } = linkAndHand();
  for (let i = 0; i < 2000 && link.end === undefined; i++) link.send(new Uint8Array(4000));
  expect(link.end?.kind).toBe("excess");
});

test("a message too short to name a channel ends the link", () => {
  const { link, hand, turn } = linkAndHand();
  hand.send(Uint8Array.of(MESSAGE.data, 0, 0));
  turn();
  expect(link.end?.kind).toBe("malformed");
});

test("while frames wait, messages have an eighth of the path; a first answer leaves at once", () => {
  const messages = new ChannelMessages();
  const rate = 2000; // bytes/ms
  for (let i = 0; i < 200; i++) messages.add(new Uint8Array(4096 - MESSAGE_COST));
  let sent = 0;
  const atOnce = (): void => {
    while (messages.due(now, rate, true) === 0) sent += messages.shift();
  };
  let now = 1000;
  atOnce();
  expect(sent).toBeWithin(4096, 3 * 4096);
  for (; now < 2000; now++) atOnce();
  expect(sent).toBeWithin(0.9 * 250_000, 1.1 * 250_000 + 8192);
  // Nothing is owed after a pause beyond one burst.
  now += 60_000;
  const before = sent;
  atOnce();
  expect(sent - before).toBeLessThanOrEqual(3 * 4096);
});

test("a slow path is not filled by messages while frames wait, and a message is never held for ever", () => {
  const messages = new ChannelMessages();
  let sent = 0;
  let now = 1000;
  for (; now < 11_000; now++) {
    messages.add(new Uint8Array(1000));
    while (messages.due(now, 25, true) === 0) sent += messages.shift(); // 200 kbit/s
  }
  expect(sent).toBeWithin(4 * 9000, 4 * 10_000 + 16_384);
  const due = messages.due(now, 25, true);
  expect(due).toBeLessThan(4096);
  expect(messages.due(now + due + 1, 25, true)).toBe(0);
});

test("orders with messages pass the socket as bytes", () => {
  const payload = Uint8Array.from({ length: 300 }, (_, i) => i & 255);
  expect(decodeOrder(encodeOrder({ kind: "message", id: 0xffff_fffe, payload }))).toEqual({
    ...{ kind: "message", id: 0xffff_fffe, payload },
  });
});
