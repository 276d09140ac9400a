/**
 * Every frame arrives unchanged, once and in order: with offloads on and off at each place on the way,
 * tagged, large, and at a neighbour without offloads. WALT_MATRIX=all tests all 64 combinations of switches
 * instead of a choice.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { libc } from "../../src/linux/libc.ts";
import { openOffloadTap, openTap } from "../../src/linux/tap.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { ALL_OFF, ALL_ON, type End, Ends, ip } from "./ends.ts";
import { nextFrame, Relay, writeNow } from "./rig.ts";
import { build, type Super, segments } from "./super.ts";

/** Where offloads are switched: at the machine, at the bridge's port towards it, at the tunnel's TAP. */
const PLACES = [
  ["machine", "eth0"],
  ["bridge", "port"],
  ["bridge", "tunnel"],
] as const;

/**
 * Combinations of switches as bits: the places of the left end, then of the right; set = off. In these
 * twelve, any three switches take all eight positions.
 */
const CHOSEN = [0, 63, 21, 11, 44, 56, 22, 51, 37, 14, 34, 25];
const COMBINATIONS = process.env["WALT_MATRIX"] === "all" ? Array.from({ length: 64 }, (_, i) => i) : CHOSEN;

const words = (bits: number): string =>
  ["left", "right"]
    .map((side, i) => `${side} ${PLACES.map((_, k) => ((bits >> (3 * i + k)) & 1 ? "-" : "+")).join("")}`)
    .join(", ");

describeWith(LAB, "machine, port and TAP", () => {
  let ends: Ends;
  beforeAll(async () => {
    ends = await Ends.create();
  });
  afterAll(() => ends.stop());
  afterEach(() => ends.clear());

  for (const bits of COMBINATIONS) {
    test(`offloads: ${words(bits)}`, async () => {
      const links = await ends.tunnel();
      /** Switch those places that this combination has off; one program for each host. */
      const set = async (changes: readonly string[], but = ""): Promise<void> => {
        const all = [ends.left, ends.right].flatMap((end, i) =>
          (["machine", "bridge"] as const).map((host) => {
            const off = PLACES.filter(([where], k) => where === host && (bits >> (3 * i + k)) & 1);
            const devices = off.map(([, device]) => device).filter((device) => device !== but);
            return devices.length > 0 && end.set(host, ...devices.flatMap((device) => [device, ...changes]));
          }),
        );
        await Promise.all(all);
      };
      await set(ALL_OFF);
      try {
        // All directions at once. Each: TCP; datagrams that are small, of full size, fragmented; UDP in
        // segments.
        const transfer = ([end, to]: [End, string]): Promise<string[]> =>
          end.transfer(["tcp", to, String(1 << 20)], ["udp", to, "1,18,1472,1473,9000"], ["gso", to, "1200"]);
        const ways = ends.ways.flatMap(([end, addresses]) => addresses.map((to): [End, string] => [end, to]));
        const said = await Promise.all(ways.map(transfer));
        expect(said.flat()).toEqual(Array<string>(12).fill("same"));
      } finally {
        await set(ALL_ON, "tunnel"); // which is a new one for each test
      }
      expect(links.map((link) => link.stats().refused)).toEqual([0, 0]);
    }, 120_000);
  }
});

describeWith(LAB, "frames", () => {
  let ends: Ends;
  /** At each end, a neighbour that hands over super-frames and one with a plain TAP. */
  let offload: number[];
  let plain: number[];
  beforeAll(async () => {
    ends = await Ends.create();
    const both = [ends.left, ends.right];
    offload = both.map((end) => openOffloadTap("inject", `/proc/${end.bridge.pid}/ns/net`).fd);
    plain = both.map((end) => openTap("probe", `/proc/${end.bridge.pid}/ns/net`).fd);
    for (const end of both)
      await ip(end.bridge, "link set inject mtu 9000 master br0 up", "link set probe mtu 9000 master br0 up");
  });
  afterAll(async () => {
    for (const fd of [...offload, ...plain]) libc.close(fd);
    await ends.stop();
  });
  afterEach(() => ends.clear());

  const ours = (bytes: Uint8Array): boolean => bytes[0] === 2 && bytes[5] === 1;

  const digest = (bytes: Uint8Array): string => `${bytes.length} bytes, ${Bun.hash(bytes)}`;

  /** What the plain neighbour of the other end gets, of so many frames. */
  function arrived(to: number, count: number): string[] {
    const got: string[] = [];
    while (got.length < count) {
      const one = nextFrame(plain[to] ?? -1, ours);
      if (one === undefined) break;
      got.push(digest(one));
    }
    return got;
  }

  const tags: [string, Pick<Super, "tags" | "outer">][] = [
    ["no tag", {}],
    ["802.1Q", { tags: 1 }],
    ["802.1ad and 802.1Q", { tags: 2, outer: 0x88a8 }],
    ["802.1Q twice", { tags: 2 }],
  ];
  for (const [name, tag] of tags) {
    test(`${name}: super-frames and single ones, up to 9000 bytes, are the same segments at a plain TAP`, async () => {
      await ends.tunnel({ mtu: 9000 }, { mtu: 9000 });
      for (const from of [0, 1] as const) {
        for (const version of [4, 6] as const) {
          for (const protocol of ["tcp", "udp"] as const) {
            for (const [data, segment] of [
              [30_001, 1400],
              [60_000, 8000],
              [100, 1400],
              [8900, 9000],
            ] as const) {
              const bytes = build({ version, protocol, ...tag, data, segment });
              expect(writeNow(offload[from] ?? -1, bytes)).toBe(bytes.length);
              const expected = segments(bytes).map((text) => digest(Buffer.from(text, "base64")));
              expect(arrived(1 - from, expected.length)).toEqual(expected);
              // The neighbour on this side has got them, too.
              expect(arrived(from, expected.length)).toEqual(expected);
            }
          }
        }
      }
    }, 120_000);
  }

  test("no frame comes twice, and none of a flow before an earlier one, even if many are dropped", async () => {
    const relay = new Relay(99, 3000);
    const links = await ends.tunnel({}, {}, relay.ends);
    const [from, to] = [plain[0] ?? -1, plain[1] ?? -1];
    const FLOWS = 20;
    const frames = Array.from({ length: FLOWS }, (_, flow) => {
      const bytes = build({ version: 4, protocol: "udp", data: 60 + 60 * flow, segment: 1500 });
      bytes[10 + 34] = 0x70 + flow; // source port
      return Buffer.from(segments(bytes)[0] ?? "", "base64");
    });
    const last = Array<number>(FLOWS).fill(-1);
    let count = 0;
    const look = (ms: number): void => {
      for (;;) {
        const one = nextFrame(to, (bytes) => ours(bytes) && bytes[36] === 0 && bytes[37] === 80, ms);
        if (one === undefined) return;
        const flow = (one[34] ?? 0) - 0x70;
        const number = new DataView(one.buffer, one.byteOffset).getUint32(42);
        expect(number).toBeGreaterThan(last[flow] ?? 0);
        last[flow] = number;
        count++;
      }
    };
    const SENT = 3000;
    for (let number = 0; number < SENT; number++) {
      for (const frame of frames) {
        frame.writeUInt32BE(number, 42);
        // Without a checksum, as it would differ each time.
        frame.writeUInt16BE(0, 40);
        writeNow(from, frame);
      }
      look(0);
      await new Promise((resolve) => setImmediate(resolve));
    }
    // Frames are dropped only in the queue; all others arrive.
    for (let before = -1; before !== count; ) {
      before = count;
      for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
      look(300);
    }
    expect(count).toBeGreaterThan(FLOWS * 20);
    expect(count).toBeLessThan(FLOWS * SENT);
    expect(links[0].stats().dropped).toBeGreaterThan(0);
    await ends.clear();
    await relay.stop();
  }, 120_000);
});
