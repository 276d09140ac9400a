/** What the links of a thread share, the memory for frames: one that takes nothing does not keep the others waiting. */

import { afterEach, expect, test } from "bun:test";
import { libc } from "../../../src/linux/libc.ts";
import { recordPair } from "../../../src/linux/socketpair.ts";
import { LARGE, MEDIUM, SLOT_BYTES, threadPool } from "../../../src/tunnel/frame/frame-pool.ts";
import { FRAMINGS } from "../../../src/tunnel/framing.ts";
import { FrameSource } from "../../../src/tunnel/send/frame-source.ts";
import { Sender } from "../../../src/tunnel/send/sender.ts";
import type { Stream } from "../../../src/tunnel/transport/stream.ts";
import { writeNow } from "../rig.ts";
import { build } from "../super.ts";

const pool = threadPool();
/** Bytes of all slots but the spare one. */
const ALL = pool.room;

/** A link's sender, with a socket for its TAP and a stream that takes everything, or nothing. */
class TestLink {
  readonly source = new FrameSource(FRAMINGS.messages, 1500);
  readonly sender = new Sender(FRAMINGS.messages, this.source);
  readonly #tap = recordPair();
  taken = 0;
  /** Bytes that the stream takes from now on. */
  takes = Number.POSITIVE_INFINITY;

  constructor() {
    this.source.offload = true;
    all.push(this);
  }

  /** The node sends frames of this many bytes of data. */
  send(count: number, data: number, now: number): void {
    const frame = build({ version: 4, protocol: "tcp", data, segment: 1000 });
    for (let i = 0; i < count; i++) {
      expect(writeNow(this.#tap[0], frame)).toBe(frame.length);
      expect(this.source.pull(this.#tap[1], true, now)).toBe(frame.length);
    }
  }

  flush(now: number): void {
    this.sender.flush(this.#stream, now);
  }

  dispose(): void {
    this.sender.free();
    this.source.free();
    for (const fd of this.#tap) libc.close(fd);
  }

  get #stream(): Stream {
    const self = this;
    return {
      ...{ fd: -1, pending: false, more: false, end: undefined, rekeys: 0, left: 0, heard: undefined },
      get blocked() {
        return self.takes === 0;
      },
      read: () => 0,
      writev: (_, words, first, count) => {
        let bytes = 0;
        for (let i = first; i < first + count; i++) bytes += words[4 * i + 2] ?? 0;
        const n = Math.min(bytes, this.takes);
        this.takes -= n;
        this.taken += n;
        return n;
      },
      flush: () => 0,
      send: () => true,
      ask: () => {},
      close: () => true,
      free: () => {},
    };
  }
}

const all: TestLink[] = [];
afterEach(() => {
  for (const link of all.splice(0)) link.dispose();
  expect(pool.room).toBe(ALL);
});

/** So many links whose peers take nothing while their nodes send for all they can. */
function stuck(links: number, data: number): TestLink[] {
  return Array.from({ length: links }, () => {
    const link = new TestLink();
    link.takes = 0;
    link.send(1500, data, 0);
    return link;
  });
}

// What fits into no small slot, into no medium one, and the largest.
for (const data of [500, 3000, 12_000, 60_000]) {
  test(`${data} bytes: beside 12 links that take nothing, one that takes all loses no frame`, () => {
    stuck(12, data);
    const honest = new TestLink();
    for (let round = 0; round < 200; round++) {
      honest.send(8, data, round);
      honest.flush(round);
    }
    expect([honest.source.dropped, honest.source.framesOut]).toEqual([0, 1600]);
  });

  test(`${data} bytes: a link that comes last may have as much waiting as the others`, () => {
    const before = stuck(12, data);
    const last = new TestLink();
    last.takes = 0;
    last.send(1500, data, 0);
    const most = Math.max(...before.map((link) => link.source.queued));
    expect(last.source.queued).toBeGreaterThan(most / 4);
  });
}

test("what has waited for 2 s goes, also on a link that takes nothing", () => {
  const links = stuck(4, 3000);
  expect(pool.room).toBeLessThan(ALL);
  for (const { source } of links) source.age(2500);
  expect(pool.room).toBe(ALL);
  expect(links.map(({ source }) => source.dropped)).toEqual([1500, 1500, 1500, 1500]);
});

test("what is committed to a stream that takes no more is a few slots", () => {
  for (const [data, size, most] of [
    [3000, MEDIUM, 13],
    [60_000, LARGE, 2],
  ] as const) {
    const link = new TestLink();
    link.takes = 10 * data + 17;
    link.send(80, data, 0);
    link.flush(1);
    link.source.age(5000);
    expect(ALL - pool.room).toBeWithin(1, most * SLOT_BYTES[size] + 1);
    link.dispose();
    all.pop();
  }
});
