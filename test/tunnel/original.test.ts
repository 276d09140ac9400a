/** The original framing: a length of two bytes, then the frame, and nothing else. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { libc, POLLIN } from "../../src/linux/libc.ts";
import { recordPair } from "../../src/linux/socketpair.ts";
import { COUNTER, COUNTERS } from "../../src/tunnel/counters.ts";
import { FRAMINGS } from "../../src/tunnel/framing.ts";
import { PumpLink } from "../../src/tunnel/link.ts";
import { originalMax } from "../../src/tunnel/message.ts";
import { type Link, type LinkOptions, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { MessageReader } from "../../src/tunnel/receive/message-reader.ts";
import { eventually, PATIENCE } from "../lab/eventually.ts";
import { describeWith, LAB } from "../lab/need.ts";
import {
  chance,
  EXPERIMENT,
  frame,
  nextFrame,
  readAll,
  readable,
  readNow,
  Site,
  streamPair,
  writeNow,
} from "./rig.ts";

const MACHINE = "52:54:00:0a:0b:0c";
const MAX = originalMax(1500);

/** A frame as it is in the stream. */
function framed(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from([bytes.length >> 8, bytes.length & 255, ...bytes]);
}

/** A frame of so many bytes in all. */
function sized(length: number, fill = 5): Uint8Array {
  return frame(MACHINE, [...EXPERIMENT, ...Array<number>(length - 14).fill(fill)]);
}

function readIn(stream: Uint8Array, piece: () => number): { found: Uint8Array[]; reader: MessageReader } {
  const reader = new MessageReader(FRAMINGS.original, 1500);
  const found: Uint8Array[] = [];
  for (let done = 0; done < stream.length && reader.problem === undefined; ) {
    const n = Math.min(piece(), reader.room, stream.length - done);
    expect(reader.room).toBeGreaterThan(0);
    reader.memory.bytes.set(stream.subarray(done, done + n), reader.end);
    reader.filled(n);
    done += n;
    while (reader.next()) {
      const { memory, offset, length } = reader;
      found.push(framed(memory.bytes.subarray(offset, offset + length)));
      // As the receiver does, overwrite what is in front of a frame with a virtio-net header.
      memory.bytes.fill(0xee, offset - 10, offset);
    }
  }
  return { found, reader };
}

test("any stream of frames, cut anywhere, gives the same frames", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = chance(seed * 104_729);
    const frames = Array.from({ length: 1 + random(200) }, () =>
      framed(new Uint8Array(14 + random(MAX - 13)).map(() => random(256))),
    );
    const largest = [1, 3, 100, 2000, 200_000][seed % 5] ?? 1;
    const { found, reader } = readIn(Buffer.concat(frames), () => 1 + random(largest));
    expect(found.length).toBe(frames.length);
    expect(Buffer.concat(found).equals(Buffer.concat(frames))).toBe(true);
    expect([reader.problem, reader.empty]).toEqual([undefined, true]);
  }
});

test("random bytes: the reader finds a problem or waits for more, and never writes beyond its memory", () => {
  const random = chance(2718);
  for (let i = 0; i < 3000; i++) {
    const stream = new Uint8Array(random(4000)).map((_, at) => (at % 2 === 0 && random(3) ? 0 : random(256)));
    const { found, reader } = readIn(stream, () => 1 + random(600));
    expect(reader.end).toBeLessThanOrEqual(reader.memory.bytes.length);
    for (const one of found) expect(one.length - 2).toBeWithin(14, MAX + 1);
    if (reader.problem !== undefined) {
      expect(reader.problem).toMatch(/^a frame of \d+ bytes, not 14 to 1522$/);
      expect(reader.next()).toBe(false);
    }
  }
});

test("a link sends nothing but frames, is up at once, and does not give up an idle peer", () => {
  const [tap, wire] = recordPair();
  const [stream, peer] = streamPair();
  const stats = new Float64Array(COUNTERS);
  const order = { id: 1, slot: 0, tap, stream, mtu: 1500, silence: 3000, features: 0 };
  const link = new PumpLink({ kind: "add", ...order, vnet: false, framing: "original" }, stats, 0);
  expect(link.up).toBe(true);
  for (let now = 0; now < 600_000; now += 1000) expect(link.tick(now)).toBeGreaterThan(0);
  expect(readNow(peer)).toEqual(new Uint8Array());
  const sent = sized(60);
  writeNow(wire, sent);
  link.service(POLLIN, 0, 600_000);
  expect(readNow(peer)).toEqual(framed(sent));
  // A peer that takes nothing is given up, as in the other framing.
  let now = 600_000;
  for (; stats[COUNTER.queued] === 0; now += 1) {
    for (let i = 0; i < 64; i++) writeNow(wire, sized(MAX));
    link.service(POLLIN, 0, now);
  }
  link.tick(now + 2900);
  expect(link.end).toBeUndefined();
  link.tick(now + 3000);
  expect(link.end).toEqual({ kind: "stalled", text: "nothing could be sent to the peer for 3.0 s" });
  link.stopNow({ kind: "stopped", text: "over" });
  // The peer finds whole frames and the beginning of one more, but no CLOSE.
  libc.close(wire);
  libc.close(peer);
});

describeWith(LAB, "a link in the original framing and a peer that the test plays", () => {
  let site: Site;
  let pumps: PumpThread;

  beforeAll(async () => {
    site = await Site.create(1);
    pumps = await PumpThread.start();
  });
  afterAll(async () => {
    await pumps.stop();
    await site[Symbol.asyncDispose]();
  });

  function join(options: Partial<LinkOptions> = {}): { link: Link; peer: number } {
    const [stream, peer] = streamPair();
    const tap = libc.fcntl(site.tap, 1030 /* F_DUPFD_CLOEXEC */, 0);
    const link = pumps.add({ tap, stream, mtu: 1500, silence: 20_000, framing: "original", ...options });
    return { link, peer };
  }

  const ours = (bytes: Uint8Array): boolean => bytes[12] === 0x88 && bytes[13] === 0xb5;

  /** The next of our frames in the peer's stream. */
  function nextFramed(peer: number): Uint8Array | undefined {
    let bytes = Buffer.alloc(0);
    while (readable(peer, PATIENCE)) {
      const more = readNow(peer, 2);
      if (more === undefined) return undefined;
      bytes = Buffer.concat([bytes, more]);
      if (bytes.length < 2) continue;
      const length = bytes.readUInt16BE(0);
      while (bytes.length < 2 + length && readable(peer, PATIENCE)) {
        bytes = Buffer.concat([bytes, readNow(peer, 2 + length - bytes.length) ?? Buffer.alloc(0)]);
      }
      const found = bytes.subarray(2);
      bytes = Buffer.alloc(0);
      if (ours(found)) return found;
    }
    return undefined;
  }

  test("frames of every allowed size pass both ways, to the byte", async () => {
    const { link, peer } = join();
    await eventually("up", link.up);
    for (const length of [60, 1514, 1518, MAX]) {
      const up = sized(length, 6);
      writeNow(peer, framed(up));
      expect(nextFrame(site.probe, ours)).toEqual(up);
      const down = sized(length, 7);
      writeNow(site.probe, down);
      expect(nextFramed(peer)).toEqual(Buffer.from(down));
    }
    // The shortest frame: the kernel's bridge accepts it, although it is too short for a wire.
    writeNow(peer, framed(sized(14)));
    expect(nextFrame(site.probe, ours)).toEqual(sized(14));
    // A longer frame is dropped, because this peer could not take it.
    writeNow(site.probe, sized(MAX + 1));
    writeNow(site.probe, sized(64, 8));
    expect(nextFramed(peer)).toEqual(Buffer.from(sized(64, 8)));
    link.stop("over");
    expect((await eventually("end", link.ended)).text).toBe("over");
    expect(link.stats()).toMatchObject({ dropped: 1, refused: 0, rtt: 0, window: 0 });
    // There is no CLOSE: the peer would take it for a frame.
    expect(Buffer.from(await readAll(peer)).toString("latin1")).not.toContain("over");
    libc.close(peer);
  });

  for (const length of [0, 13, MAX + 1, 65_535]) {
    test(`a length of ${length} ends the link with a reason`, async () => {
      const { link, peer } = join();
      writeNow(peer, Buffer.concat([framed(sized(60)), new Uint8Array([length >> 8, length & 255])]));
      expect((await eventually("end", link.ended)).text).toBe(
        `the peer sent a frame of ${length} bytes, not 14 to 1522`,
      );
      expect(nextFrame(site.probe, ours)).toEqual(sized(60));
      libc.close(peer);
    });
  }

  test("the guard checks these frames, too", async () => {
    const { link, peer } = join({ guard: { mac: MACHINE } });
    const forged = frame("52:54:00:66:66:66", [...EXPERIMENT, ...Array<number>(50).fill(1)]);
    writeNow(peer, Buffer.concat([framed(forged), framed(sized(60, 9))]));
    expect(nextFrame(site.probe, ours)).toEqual(sized(60, 9));
    link.stop("over");
    await eventually("end", link.ended);
    expect(link.stats()).toMatchObject({ framesIn: 1, refused: 1 });
    libc.close(peer);
  });

  test("random streams never hurt the thread", async () => {
    const random = chance(1618);
    for (let i = 0; i < 300; i++) {
      const { link, peer } = join();
      const whole = random(2) === 0 ? framed(sized(14 + random(MAX - 13))) : new Uint8Array();
      const junk = new Uint8Array(1 + random(300)).map((_, at) => (at === 0 && random(2) ? 0 : random(256)));
      writeNow(peer, Buffer.concat([whole, junk]));
      libc.close(peer);
      expect((await eventually("end", link.ended)).text).not.toMatch(/fault/);
    }
    const { link, peer } = join();
    writeNow(peer, framed(sized(60, 3)));
    expect(nextFrame(site.probe, (bytes) => ours(bytes) && bytes[14] === 3 && bytes.length === 60)).toEqual(
      sized(60, 3),
    );
    libc.close(peer);
    expect((await eventually("end", link.ended)).text).toMatch(/closed|ECONNRESET|EPIPE/);
  });
});
