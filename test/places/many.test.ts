/** Many nodes on one server: the end of all tunnels at once, and what is said where the bridge has no port left. */

import { describe, expect, test } from "bun:test";
import { closeSync, readSync } from "node:fs";
import { socketPair } from "../../src/linux/socketpair.ts";
import { openOffloadTap } from "../../src/linux/tap.ts";
import { PORTS_MAX, portError, portsTrouble } from "../../src/server/net/surroundings.ts";
import { PumpThread } from "../../src/tunnel/pump-thread.ts";
import { Lab } from "../lab/lab.ts";
import { describeWith, LAB } from "../lab/need.ts";

const TUNNELS = 60;

describeWith(LAB, "the end of many tunnels", () => {
  test("TAPs can be removed together; each peer is told why its tunnel ends all the same", async () => {
    await using lab = await Lab.create();
    const host = await lab.host("server");
    const pumps = await PumpThread.start();
    try {
      await host.ip("link add br0 type bridge", "link set br0 up");
      const all = Array.from({ length: TUNNELS }, (_, i) => {
        const tap = openOffloadTap(`tap${i}`, host.ns);
        const [ours, theirs] = socketPair();
        const options = { tap: tap.fd, offload: tap.offload, stream: ours, mtu: 1500, silence: 60_000 };
        return { link: pumps.add(options), theirs };
      });
      await host.ip(...all.map((_, i) => `link set dev tap${i} group 77 master br0 up`));
      await pumps.stopLinks("the server stops");
      await host.ip("link del group 77");
      const said = all.map(({ theirs }) => {
        const text = Buffer.alloc(4096);
        const length = readSync(theirs, text);
        closeSync(theirs);
        return text.toString("latin1", 0, length);
      });
      expect(said.filter((text) => !text.includes("the server stops"))).toEqual([]);
      const ends = await Promise.all(all.map(({ link }) => link.ended));
      expect([...new Set(ends.map(({ text }) => text))]).toEqual(["the server stops"]);
      expect(await host.must(["ip", "-o", "link", "show", "master", "br0"])).toBe("");
    } finally {
      await pumps.stop();
    }
  }, 120_000);
});

describe("a bridge with few ports left, and with none", () => {
  test("is said in words", () => {
    expect(portsTrouble(899, "walt-net")).toBeUndefined();
    expect(portsTrouble(900, "walt-net")?.text).toBe(
      "walt-net is nearly full: 900 or more of its 1023 ports are taken",
    );
    expect(portsTrouble(PORTS_MAX, "walt-net")).toMatchObject({
      text: "walt-net is full: no tunnel of another node can come up",
      cure: expect.stringContaining("docs/scale.md"),
    });
  });

  test("a port that cannot be added for another reason keeps that reason", () => {
    const error = new Error("RTNETLINK answers: Exchange full");
    expect(portError(error, "walt-net", 5).message).toBe(error.message);
    expect(portError(error, "walt-net", PORTS_MAX).message).toBe(
      "the server's bridge walt-net is full: a Linux bridge has 1023 ports",
    );
  });
});
