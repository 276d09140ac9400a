/** Bytes pass a tunnel with offloads unchanged, whatever offloads are on or off around it. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { run } from "../../src/linux/run.ts";
import type { Link } from "../../src/tunnel/pump-thread.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { ALL_OFF, ALL_ON, type End, Ends, ip } from "./ends.ts";

describeWith(LAB, "offloads", () => {
  let ends: Ends;
  let left: End;
  let right: End;

  beforeAll(async () => {
    ends = await Ends.create();
    ({ left, right } = ends);
  });
  afterAll(() => ends.stop());
  afterEach(() => ends.clear());

  /** Datagrams: small, of full size, fragmented. */
  const UDP = "1,18,100,1472,1473,2000,8000,20000";
  const transfers = (bytes: number, ...more: [string, string][]): Promise<void> =>
    ends.transfers(["tcp", String(bytes)], ["udp", UDP], ...more);

  /** Bytes a frame on average, towards the right. */
  const average = (link: Link): number => {
    const { bytesOut, framesOut } = link.stats();
    return bytesOut / framesOut;
  };

  test("both ends take offloads: super-frames pass", async () => {
    const [one, other] = await ends.tunnel();
    await transfers(8 << 20);
    expect(average(one)).toBeGreaterThan(4000);
    expect([one, other].map((link) => link.stats().refused)).toEqual([0, 0]);
  }, 120_000);

  test("UDP in segments (USO) passes as one frame", async () => {
    const [one] = await ends.tunnel();
    await ends.transfers(["gso", "1200"]);
    // While a path seems slow, as a new one or one of a busy machine does, such frames are split (send/super-frame.ts).
    const average = async (): Promise<number> => {
      const before = one.stats();
      expect(await left.transfer(["gso", "fd78::2", "1200"])).toEqual(["same"]);
      const { bytesOut, framesOut } = one.stats();
      return (bytesOut - before.bytesOut) / (framesOut - before.framesOut);
    };
    expect(await left.transfer(["tcp", "fd78::2", String(8 << 20)])).toEqual(["same"]);
    await eventually("30 segments are fewer frames", average, { fits: (bytes) => bytes > 1500 });
    expect(one.stats().refused).toBe(0);
  }, 120_000);

  const neighbours: [string, Parameters<Ends["tunnel"]>][] = [
    ["a peer with a plain TAP", [{}, { plain: true }]],
    ["a peer of the first version", [{}, { plain: true, features: 0 }]],
    [
      "two of the first version",
      [
        { plain: true, features: 0 },
        { plain: true, features: 0 },
      ],
    ],
    ["a peer that takes only what Linux before 6.2 does", [{}, { features: 0x10f }]],
    ["a peer that takes offloads and does not acknowledge", [{}, { features: 0x6f }]],
    ["a peer that acknowledges and takes no offloads", [{}, { features: 0x100 }]],
    ["a guarded end", [{}, { guard: { mac: "52:54:00:00:00:01" } }]],
    [
      "the original framing",
      [
        { plain: true, framing: "original" },
        { plain: true, framing: "original" },
      ],
    ],
    [
      "the original framing from a TAP with virtio-net headers",
      [{ framing: "original" }, { framing: "original" }],
    ],
  ];
  for (const [name, options] of neighbours) {
    test(name, async () => {
      const made = await ends.tunnel(...options);
      await transfers(2 << 20, ["gso", "1000"]);
      if (options[1]?.guard === undefined) {
        expect(made.map((link) => link.stats().refused)).toEqual([0, 0]);
      }
    }, 120_000);
  }

  const switches: [string, "bridge" | "machine", string, string[]][] = [
    ["the left machine has none", "machine", "eth0", ALL_OFF],
    ["the left machine makes checksums only", "machine", "eth0", ["tso=off", "gso=off", "gro=off"]],
    ["the left machine makes no checksums", "machine", "eth0", ["tx=off"]],
    ["the left bridge's port has none", "bridge", "port", ALL_OFF],
    ["the left TAP has none", "bridge", "tunnel", ["tx=off", "sg=off", "tso=off", "gso=off", "gro=off"]],
    ["the left TAP does not segment", "bridge", "tunnel", ["tso=off"]],
  ];
  for (const [name, where, device, changes] of switches) {
    test(`offloads off: ${name}`, async () => {
      const made = await ends.tunnel();
      await left.set(where, device, ...changes);
      await transfers(2 << 20);
      expect(made.map((link) => link.stats().refused)).toEqual([0, 0]);
      await left.set(where, device, ...ALL_ON);
    }, 120_000);
  }

  test("jumbo frames and VLANs, one and two tags", async () => {
    const [one, other] = await ends.tunnel();
    for (const [end, n] of [
      [left, 1],
      [right, 2],
    ] as const) {
      await ip(end.machine, "link set eth0 mtu 9000");
      await ip(
        end.machine,
        "link add link eth0 name v5 type vlan id 5",
        "link set v5 up",
        `address add 10.79.0.${n}/24 dev v5`,
        "link add link eth0 name q7 type vlan proto 802.1ad id 7",
        "link set q7 up",
        "link add link q7 name q7v9 type vlan id 9",
        "link set q7v9 mtu 8900 up",
        `address add 10.80.0.${n}/24 dev q7v9`,
      ).catch(() => {});
    }
    await transfers(4 << 20);
    const vlans = /v5/.test(await run([...left.machine.enterNetwork(), "ip", "-br", "link"]));
    if (vlans) {
      for (const net of ["10.79.0", "10.80.0"]) {
        expect(await left.transfer(["tcp", `${net}.2`, `${4 << 20}`])).toEqual(["same"]);
        expect(await right.transfer(["udp", `${net}.1`, "1,1472,8000,20000"])).toEqual(["same"]);
      }
    }
    for (const end of [left, right]) await ip(end.machine, "link set eth0 mtu 1500");
    expect([one, other].map((link) => link.stats().refused)).toEqual([0, 0]);
  }, 120_000);
});
