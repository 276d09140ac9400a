/**
 * Devices that take nothing while frames for their nodes come without end: the links of one pump thread share the
 * memory for frames, and an honest link must lose none. Fails where a link that holds the most slots of a size need
 * not give one back: frames of 3 kB take the slots of which there are fewest for their size.
 */

import { expect, test } from "bun:test";
import { libc } from "../../src/linux/libc.ts";
import { recordPair } from "../../src/linux/socketpair.ts";
import { type Link, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { eventually, turn } from "../lab/eventually.ts";
import { EXPERIMENT, frame, helloMessage, readNow, streamPair, writeNow } from "../tunnel/rig.ts";

const NODE = "52:54:00:0a:0b:0c";
const BIG = frame(NODE, [...EXPERIMENT, ...new Uint8Array(3000)]);
/** Bytes of a message with such a frame. */
const MESSAGE = 4 + BIG.length;
/** More than enough links to fill the pool. */
const DEAF = 12;
/** Frames of the honest link. */
const FRAMES = 100;

/** A link, with sockets in place of its TAP and its connection. */
interface End {
  readonly link: Link;
  readonly wire: number;
  readonly peer: number;
}

test("links whose devices take nothing do not make another one lose frames of 3 kB", async () => {
  const pumps = await PumpThread.start();
  const add = (): End => {
    const [tap, wire] = recordPair();
    const [stream, peer] = streamPair();
    const link = pumps.add({ tap, stream, mtu: 9000, silence: 60_000 });
    writeNow(peer, helloMessage(9000));
    return { link, wire, peer };
  };
  const deaf = Array.from({ length: DEAF }, add);
  const honest = add();
  const all = [...deaf, honest];
  try {
    await eventually("all are up", Promise.all(all.map(({ link }) => link.up)));
    const flood = (): void => {
      for (const { wire } of deaf) while (writeNow(wire, BIG) > 0);
    };
    const lost = (): number => deaf.reduce((sum, { link }) => sum + link.stats().dropped, 0);
    while (lost() < 1000) {
      flood();
      await turn();
    }
    let got = 0;
    // One at a time: a frame that waits for others of its own link could be dropped for that.
    for (let sent = 1; sent <= FRAMES; sent++) {
      flood();
      expect(writeNow(honest.wire, BIG)).toBe(BIG.length);
      const arrived = (): boolean => {
        got += readNow(honest.peer)?.length ?? 0;
        return got >= sent * MESSAGE;
      };
      await eventually(`frame ${sent} of the honest link`, arrived, { every: 0 });
    }
    expect(honest.link.stats()).toMatchObject({ framesOut: FRAMES, dropped: 0 });
  } finally {
    await pumps.stop();
    for (const { wire, peer } of all) for (const fd of [wire, peer]) libc.close(fd);
  }
}, 120_000);
