/**
 * A tunnel of several lanes between two links that the test plays: bytes move on each lane when and as far as
 * the test lets them. Whatever the order, frames of a flow stay in order, and none comes twice.
 */

import { afterEach, expect, test } from "bun:test";
import { libc, POLLIN, POLLOUT } from "../../src/linux/libc.ts";
import { recordPair } from "../../src/linux/socketpair.ts";
import { COUNTERS } from "../../src/tunnel/counters.ts";
import { threadPool } from "../../src/tunnel/frame/frame-pool.ts";
import { PumpLink } from "../../src/tunnel/link.ts";
import { FEATURE_ACK, FEATURE_LANES } from "../../src/tunnel/message.ts";
import { HOLD } from "../../src/tunnel/receive/reorder.ts";
import { datagram } from "./frames.ts";
import { chance, helloMessage, readNow, streamPair, writeNow } from "./rig.ts";

const FEATURES = FEATURE_ACK | FEATURE_LANES;
const pool = threadPool();
const ROOM = pool.room;

/** One end: a tunnel's links, each with its stream, and a socket for the TAP. */
class End {
  readonly links: PumpLink[] = [];
  readonly node: number;
  readonly #tap: number;

  constructor() {
    [this.node, this.#tap] = recordPair();
  }

  add(stream: number, now: number, features = FEATURES): PumpLink {
    const first = this.links[0];
    const order = {
      id: this.links.length,
      slot: 0,
      mtu: 1500,
      silence: 60_000,
      vnet: false,
      features,
      stream,
    };
    const link = new PumpLink(
      { kind: "add", framing: "messages", tap: first === undefined ? this.#tap : -1, ...order },
      new Float64Array(COUNTERS),
      now,
      () => {},
      first,
    );
    this.links.push(link);
    return link;
  }

  free(): void {
    for (const link of this.links) link.stopNow({ kind: "stopped", text: "the test is over" });
    libc.close(this.node);
  }
}

/** Two ends, and between them lanes of two sockets each, whose bytes the test moves. */
class Tunnel {
  now = 0;
  readonly ends = [new End(), new End()] as const;
  /** Of each lane: the test's descriptor at each end, and the bytes on their way to that end. */
  readonly lanes: { fds: [number, number]; held: [Uint8Array, Uint8Array]; cut: boolean }[] = [];
  /** Numbers of the frames that came at each end, by port, in their order. */
  readonly came = [new Map<number, number[]>(), new Map<number, number[]>()] as const;

  constructor(readonly random: (below: number) => number) {
    this.lane();
    all.push(this);
  }

  /** Both ends may have further lanes from now on. */
  get isUp(): boolean {
    return this.ends.every(({ links }) => links[0]?.up);
  }

  lane(): void {
    const fds = this.ends.map((end) => {
      const [stream, ours] = streamPair();
      end.add(stream, this.now);
      return ours;
    });
    this.lanes.push({
      fds: [fds[0] ?? -1, fds[1] ?? -1],
      held: [new Uint8Array(), new Uint8Array()],
      cut: false,
    });
  }

  /** Let both links of a lane work. */
  serve(number: number): void {
    for (const end of this.ends) {
      const link = end.links[number];
      if (link === undefined || link.over) continue;
      link.tick(this.now);
      if (!link.over) link.service(link.tap >= 0 ? link.tapEvents : 0, POLLIN | POLLOUT, this.now);
    }
    this.collect(); // the socket of a node holds few frames
  }

  /** Move bytes to one end on a lane. @param most bytes. */
  move(number: number, to: 0 | 1, most: number): number {
    const lane = this.lanes[number];
    if (lane === undefined || lane.cut) return 0;
    const from = lane.fds[1 - to] ?? -1;
    if (lane.held[to].length === 0) lane.held[to] = readNow(from, most) ?? new Uint8Array();
    const n = writeNow(lane.fds[to], lane.held[to]);
    lane.held[to] = lane.held[to].subarray(n);
    return n;
  }

  /** A lane breaks: what is on its way is lost. */
  cut(number: number): void {
    const lane = this.lanes[number];
    if (lane === undefined || lane.cut) return;
    lane.cut = true;
    for (const fd of lane.fds) libc.close(fd);
    this.serve(number);
  }

  collect(): void {
    for (const to of [0, 1] as const) {
      for (;;) {
        const bytes = readNow(this.ends[to].node);
        if (bytes === undefined || bytes.length === 0) break;
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        const port = view.getUint16(34);
        const numbers = this.came[to].get(port) ?? [];
        this.came[to].set(port, numbers);
        numbers.push(view.getUint32(42));
      }
    }
  }

  /** Let everything arrive that can. */
  settle(): void {
    for (let i = 0; i < 400; i++) {
      for (let number = 0; number < this.lanes.length; number++) {
        this.serve(number);
        for (const to of [0, 1] as const) while (this.move(number, to, 65_536) > 0);
        this.serve(number);
      }
      this.now += 5;
    }
  }

  free(): void {
    for (const lane of this.lanes) if (!lane.cut) for (const fd of lane.fds) libc.close(fd);
    for (const end of this.ends) end.free();
  }
}

const all: Tunnel[] = [];
afterEach(() => {
  for (const tunnel of all.splice(0)) tunnel.free();
  expect(pool.room).toBe(ROOM);
});

const FLOWS = 6;

/** Frames both ways over lanes that come, carry bytes at random, and break as `cuts` says. @returns frames sent. */
function play(tunnel: Tunnel, cuts: boolean): Map<number, number>[] {
  const { random } = tunnel;
  const sent = [new Map<number, number>(), new Map<number, number>()];
  for (let step = 0; step < 600; step++) {
    const lane = random(tunnel.lanes.length);
    if (tunnel.lanes.length < 5 && random(60) === 0 && tunnel.isUp) tunnel.lane();
    if (cuts && lane > 0 && random(120) === 0) tunnel.cut(lane);
    if (random(2) === 0) {
      const from = random(2);
      const port = 1000 + random(FLOWS);
      // Half of the flows send little, the other half all that they can.
      for (let i = port % 2 === 0 ? 1 : 1 + random(8); i > 0; i--) {
        const number = sent[from]?.get(port) ?? 0;
        const data = port % 2 === 0 ? 40 : 40 + random(1400);
        // The socket is full now and then.
        const taken = writeNow(tunnel.ends[from === 0 ? 0 : 1].node, datagram(port, number, data)) > 0;
        if (taken) sent[from]?.set(port, number + 1);
      }
    }
    tunnel.serve(lane);
    tunnel.move(lane, random(2) === 0 ? 0 : 1, 1 + random(4000));
    tunnel.serve(lane);
    if (random(4) === 0) tunnel.now += random(3);
  }
  tunnel.settle();
  return sent;
}

for (let seed = 1; seed <= 40; seed++) {
  test(`lanes at their own pace: every frame once, each flow in order (seed ${seed})`, () => {
    const tunnel = new Tunnel(chance(seed * 7919));
    const sent = play(tunnel, false);
    for (const from of [0, 1] as const) {
      for (const [port, count] of sent[from] ?? []) {
        const expected = Array.from({ length: count }, (_, i) => i);
        expect(tunnel.came[1 - from]?.get(port) ?? []).toEqual(expected);
      }
    }
  });

  test(`lanes that break: nothing twice, nothing out of order, nothing stuck (seed ${seed})`, () => {
    const tunnel = new Tunnel(chance(seed * 104_729));
    const sent = play(tunnel, true);
    for (const came of tunnel.came)
      for (const numbers of came.values())
        expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    // The tunnel goes on: what is sent from now on arrives.
    tunnel.now += HOLD + 100;
    tunnel.settle();
    for (const from of [0, 1] as const) {
      for (let port = 1000; port < 1000 + FLOWS; port++) {
        const number = sent[from]?.get(port) ?? 0;
        writeNow(tunnel.ends[from].node, datagram(port, number, 40));
        tunnel.settle();
        expect(tunnel.came[1 - from]?.get(port)?.at(-1)).toBe(number);
      }
    }
    expect(tunnel.ends.map(({ links }) => links[0]?.open)).toEqual([true, true]);
  });
}

test("a further lane ends with the first one, and its own end is the end of nothing else", () => {
  const tunnel = new Tunnel(chance(5));
  tunnel.lane();
  tunnel.lane();
  tunnel.settle();
  tunnel.cut(1);
  tunnel.settle();
  expect(tunnel.ends.map(({ links }) => links.map(({ over }) => over))).toEqual([
    [false, true, false],
    [false, true, false],
  ]);
  tunnel.cut(0);
  tunnel.settle();
  expect(tunnel.ends.map(({ links }) => links.map(({ over }) => over))).toEqual([
    [true, true, true],
    [true, true, true],
  ]);
});

test("a small frame is there as soon as one of two lanes lets it through", () => {
  const tunnel = new Tunnel(chance(6));
  tunnel.lane();
  tunnel.settle();
  const [left, right] = tunnel.ends;
  writeNow(left.node, datagram(1000, 0, 40));
  // Nothing passes on the first lane.
  for (let i = 0; i < 20; i++) {
    for (const lane of [0, 1]) tunnel.serve(lane);
    tunnel.move(1, 1, 65_536);
    tunnel.serve(1);
    tunnel.now += 1;
  }
  tunnel.collect();
  expect(tunnel.came[1].get(1000)).toEqual([0]);
  tunnel.settle();
  expect(tunnel.came[1].get(1000)).toEqual([0]);
  expect([left.links[0]?.open, right.links[0]?.open]).toEqual([true, true]);
});

test("while all further lanes are silent the first one carries everything, and no longer", () => {
  const tunnel = new Tunnel(chance(8));
  tunnel.lane();
  tunnel.lane();
  tunnel.settle();
  const [left] = tunnel.ends;
  let number = 0;
  /** A flow with much to send, for some ms. @param open lanes on which something passes. */
  const send = (ms: number, open: readonly number[]): void => {
    for (const end = tunnel.now + ms; tunnel.now < end; tunnel.now += 5) {
      for (let i = 0; i < 4; i++) writeNow(left.node, datagram(1001, number++, 1400));
      for (const lane of [0, 1, 2]) {
        tunnel.serve(lane);
        for (const to of [1, 0] as const) if (open.includes(lane)) while (tunnel.move(lane, to, 65_536) > 0);
        tunnel.serve(lane);
      }
    }
  };
  const newest = (): number => tunnel.came[1].get(1001)?.at(-1) ?? -1;
  send(1000, [0, 1, 2]);
  expect(newest()).toBeGreaterThan(number - 50);
  send(6000, [0]);
  expect(newest()).toBeGreaterThan(number - 400);
  tunnel.settle();
  // Once the flow has begun anew, nothing passes on the first lane: it is not needed.
  send(200, [0, 1, 2]);
  send(1000, [1, 2]);
  expect(newest()).toBeGreaterThan(number - 50);
  expect(tunnel.ends.flatMap(({ links }) => links.map(({ open }) => open))).not.toContain(false);
  const numbers = tunnel.came[1].get(1001) ?? [];
  expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
});

test("an end without lanes gets none: the lane ends, and the tunnel stays as it is", () => {
  const end = new End();
  const [stream, peer] = streamPair();
  const link = end.add(stream, 0);
  writeNow(peer, helloMessage(1500, FEATURE_ACK));
  link.service(0, POLLIN, 1);
  expect([link.up, link.lanes]).toEqual([true, false]);
  const [more, other] = streamPair();
  const lane = end.add(more, 1);
  writeNow(other, helloMessage(1500, FEATURES));
  lane.service(0, POLLIN, 2);
  expect([lane.up, lane.end?.kind, link.open]).toEqual([false, "malformed", true]);
  for (const fd of [peer, other]) libc.close(fd);
  end.free();
});

test("copies go again with the acknowledgement that ends a stall, not with the next PING", () => {
  const tunnel = new Tunnel(chance(7));
  tunnel.lane();
  tunnel.settle();
  const [left] = tunnel.ends;
  const lane = left.links[1];
  // The further lane gets to know its path by a flow with much to send.
  for (let i = 0; i < 2000; i++) {
    writeNow(left.node, datagram(1001, i, 1400));
    if (i % 8 > 0) continue;
    for (const one of [0, 1]) {
      tunnel.serve(one);
      if (i % 64 === 0) for (const to of [1, 0] as const) tunnel.move(one, to, 1 << 18);
    }
    tunnel.now += 2;
  }
  tunnel.settle();
  // What is sent is not acknowledged for long, and a copy has to wait. On the first lane nothing passes.
  writeNow(left.node, datagram(1002, 0, 40));
  tunnel.serve(0);
  tunnel.now += 300;
  writeNow(left.node, datagram(1004, 0, 40));
  tunnel.serve(0);
  expect((lane?.streamEvents ?? 0) & POLLOUT).toBe(0);
  tunnel.move(1, 1, 65_536);
  tunnel.serve(1);
  expect(tunnel.came[1].get(1004)).toBeUndefined();
  tunnel.now += 10;
  tunnel.serve(1);
  tunnel.move(1, 0, 65_536);
  lane?.service(0, POLLIN, tunnel.now);
  tunnel.move(1, 1, 65_536);
  tunnel.serve(1);
  expect(tunnel.came[1].get(1004)).toEqual([0]);
});
