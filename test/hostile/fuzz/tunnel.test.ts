/**
 * The receiver under fuzz: streams of messages, whole and damaged, cut anywhere. It ends with a reason, waits for
 * more, or writes to the TAP, and what it writes has the node's own MAC address as its source.
 */

import { afterAll, expect } from "bun:test";
import type { End } from "../../../src/end.ts";
import { libc } from "../../../src/linux/libc.ts";
import { recordPair } from "../../../src/linux/socketpair.ts";
import { FRAMINGS } from "../../../src/tunnel/framing.ts";
import { TYPE, writeClose, writePair } from "../../../src/tunnel/message.ts";
import { FrameSink } from "../../../src/tunnel/receive/frame-sink.ts";
import { type ControlMessages, Receiver } from "../../../src/tunnel/receive/receiver.ts";
import { SocketStream } from "../../../src/tunnel/transport/stream.ts";
import { EXPERIMENT, frame, helloMessage, message, readNow, streamPair, writeNow } from "../../tunnel/rig.ts";
import { build } from "../../tunnel/super.ts";
import { damage, fuzz, oneOf, type Random, someBytes } from "../fuzz.ts";

const NODE = "52:54:00:01:02:03";
/** Bytes of a virtio-net header. */
const VIRTIO = 10;
const [tap, wire] = recordPair();
afterAll(() => {
  for (const fd of [tap, wire]) libc.close(fd);
});

/** A frame of the node. */
const ownFrame = (random: Random): Uint8Array => frame(NODE, [...EXPERIMENT, ...someBytes(random, 1500)]);

/** A frame behind a flow, which is seldom one that there is not, and a low number. */
function numbered(random: Random, bytes: Uint8Array): Uint8Array {
  const flow = random(10) === 0 ? random(65_536) : random(4);
  return Uint8Array.from([flow >>> 8, flow, 0, 0, 0, random(6), ...bytes]);
}

/** A super-frame of the node. */
function superFrame(random: Random): Uint8Array {
  const bytes = build({
    ...{ version: oneOf(random, 4, 6), protocol: oneOf(random, "tcp", "udp"), tags: random(3) },
    ...{ data: 1 + random(3000), segment: 100 + random(1000) },
  });
  bytes.set([0x52, 0x54, 0, 1, 2, 3], VIRTIO + 6);
  return bytes;
}

function pair(random: Random, type: typeof TYPE.ping | typeof TYPE.pong | typeof TYPE.ack): Uint8Array {
  const bytes = new Uint8Array(12);
  writePair(bytes, 0, type, random(2 ** 31), random(2 ** 31));
  return bytes;
}

function close(random: Random): Uint8Array {
  const bytes = new Uint8Array(300);
  return bytes.subarray(0, writeClose(bytes, 0, someBytes(random, 250).toString("latin1")));
}

const MESSAGES: readonly [(random: Random) => Uint8Array, ...((random: Random) => Uint8Array)[]] = [
  (random) => message(TYPE.frame, ownFrame(random)),
  (random) => message(TYPE.frame, frame("52:54:00:09:09:09", [...EXPERIMENT, ...someBytes(random, 100)])),
  (random) => message(TYPE.offloaded, superFrame(random)),
  (random) => message(TYPE.offloaded, damage(superFrame(random), random)),
  (random) => message(TYPE.numbered, numbered(random, ownFrame(random))),
  (random) => message(TYPE.numberedOffloaded, numbered(random, superFrame(random))),
  () => message(TYPE.numbering, new Uint8Array(0)),
  (random) => pair(random, TYPE.ping),
  (random) => pair(random, TYPE.pong),
  (random) => pair(random, TYPE.ack),
  (random) => helloMessage(random(65_536), random(2 ** 16)),
  (random) => (random(10) === 0 ? close(random) : pair(random, TYPE.ping)),
];

/** What of a link the receiver uses. */
class Control implements ControlMessages {
  readonly up: boolean;
  readonly lanes: boolean;
  end: End | undefined;
  constructor(
    random: Random,
    readonly sink: () => FrameSink,
  ) {
    this.up = random(10) > 0;
    this.lanes = random(10) > 0;
  }
  get open(): boolean {
    return this.end === undefined;
  }
  numbering(): void {
    this.sink().numbering(0);
  }
  hello(): void {}
  ping(): void {}
  pong(): void {}
  acknowledged(): void {}
  sendAck(): void {}
  stop(end: End): void {
    expect(this.end).toBeUndefined();
    expect(end.text.length).toBeLessThan(400);
    expect(end.text).not.toMatch(/\p{C}/u);
    this.end = end;
  }
  stopNow(end: End): void {
    this.stop(end);
  }
}

fuzz("the receiver: an end with a reason, and only the node's own frames reach the TAP", 1500, (random) => {
  const framing = FRAMINGS[oneOf(random, "messages", "messages", "original")];
  const [stream, peer] = streamPair();
  const control: Control = new Control(random, () => sink);
  const vnet = random(2) === 0;
  const sink = new FrameSink(tap, vnet, { mac: NODE }, (end) => control.stop(end));
  const receiver = new Receiver({ stream: new SocketStream(stream), framing, mtu: 1500, sink }, control, 0);
  receiver.acknowledges = random(2) === 0;
  let now = 0;
  for (let i = random(20); i > 0 && control.open; i--) {
    const whole = oneOf(random, ...MESSAGES)(random);
    const bytes = random(8) === 0 ? damage(whole, random) : whole;
    for (let at = 0; at < bytes.length && control.open; ) {
      const n = random(3) === 0 ? 1 + random(bytes.length) : bytes.length;
      at += writeNow(peer, bytes.subarray(at, at + n));
      do receiver.read(++now);
      while (receiver.more && control.open);
      receiver.acknowledge(now);
      for (let got = readNow(wire); got !== undefined && got.length > 0; got = readNow(wire)) {
        const written = vnet ? got.subarray(VIRTIO) : got;
        expect([...written.subarray(6, 12)]).toEqual([0x52, 0x54, 0, 1, 2, 3]);
      }
    }
  }
  libc.close(peer);
  for (let i = 0; i < 100 && control.open; i++) receiver.read(++now);
  expect(control.end).toBeDefined();
  receiver.free();
  sink.free();
  libc.close(stream);
});
