/** Bytes that went through a tunnel with offloads are the same, whatever is switched on and off around it. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { libc } from "../../src/linux/libc.ts";
import { run } from "../../src/linux/run.ts";
import { openOffloadTap, openTap } from "../../src/linux/tap.ts";
import { type Link, type LinkOptions, Pumps } from "../../src/tunnel/pumps.ts";
import { Holder } from "../lab/namespace.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { nextFrame, soon, streamPair, writeNow } from "./rig.ts";
import { build, segments } from "./super.ts";

const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];
const TRANSFER = program("transfer.ts");
const FEATURES = program("features.ts");

/** A host with a bridge for the tunnel's TAP, and a machine on that bridge. */
class End {
  private constructor(
    readonly number: number,
    readonly bridge: Holder,
    readonly machine: Holder,
    readonly server: Bun.Subprocess,
  ) {}

  static async create(number: number): Promise<End> {
    const [bridge, machine] = await Promise.all([
      Holder.start("ip link set lo up; ip link add br0 mtu 9000 type bridge; ip link set br0 up", []),
      Holder.start("ip link set lo up", []),
    ]);
    await ip(
      bridge,
      `link add port mtu 9000 type veth peer name eth0 netns ${machine.pid} address 52:54:00:00:00:0${number} mtu 9000`,
      "link set port master br0 up",
    );
    await ip(
      machine,
      `address add 10.78.0.${number}/24 dev eth0`,
      `address add fd78::${number}/64 dev eth0 nodad`,
      "link set eth0 up mtu 1500",
    );
    const server = Bun.spawn([...machine.enterNetwork(), ...TRANSFER, "serve"], { stdout: "pipe" });
    await server.stdout.getReader().read();
    return new End(number, bridge, machine, server);
  }

  tap(offload: boolean): { tap: number; offload: number | undefined } {
    const ns = `/proc/${this.bridge.pid}/ns/net`;
    const tap = (offload ? openOffloadTap : openTap)("tunnel", ns);
    return { tap: tap.fd, offload: tap.offload };
  }

  transfer(...args: string[]): Promise<string> {
    return run([...this.machine.enterNetwork(), ...TRANSFER, ...args]);
  }

  set(where: "bridge" | "machine", device: string, ...changes: string[]): Promise<string> {
    return run([...this[where].enterNetwork(), ...FEATURES, device, ...changes]);
  }

  async stop(): Promise<void> {
    this.server.kill();
    await Promise.all([this.bridge.stop(), this.machine.stop()]);
  }
}

async function ip(holder: Holder, ...lines: string[]): Promise<void> {
  await run([...holder.enterNetwork(), "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

/** `plain`: with a TAP without virtio-net headers. */
type Options = Partial<LinkOptions> & { plain?: boolean };

const ALL_OFF = ["tx=off", "sg=off", "tso=off", "gso=off", "gro=off"];
const ALL_ON = ["tx=on", "sg=on", "tso=on", "gso=on", "gro=on"];

describeWith(LAB, "offloads", () => {
  let left: End;
  let right: End;
  let pumps: Pumps;
  let links: [Link, Link] | undefined;

  beforeAll(async () => {
    [left, right, pumps] = await Promise.all([End.create(1), End.create(2), Pumps.start()]);
  });
  afterAll(async () => {
    await pumps.stop();
    await Promise.all([left.stop(), right.stop()]);
  });
  afterEach(async () => {
    for (const link of links ?? []) link.close("test over");
    await Promise.all((links ?? []).map((link) => soon(link.ended, "end")));
    links = undefined;
  });

  async function tunnel(one: Options = {}, other: Options = {}): Promise<[Link, Link]> {
    const [a, b] = streamPair();
    const add = (end: End, stream: number, { plain = false, ...more }: Options): Link =>
      pumps.add({ ...end.tap(!plain), stream, mtu: 1500, silence: 15_000, ...more });
    const made: [Link, Link] = [add(left, a, one), add(right, b, other)];
    links = made;
    for (const end of [left, right]) await ip(end.bridge, "link set tunnel mtu 9000 master br0 up");
    await soon(Promise.all(made.map((link) => link.up)), "up");
    return made;
  }

  const ways = (): [End, string][] => [
    [left, "10.78.0.2"],
    [right, "10.78.0.1"],
    [left, "fd78::2"],
    [right, "fd78::1"],
  ];

  async function transfers(bytes: number): Promise<void> {
    // Datagrams: small, of full size, fragmented.
    const udp = "1,18,100,1472,1473,2000,8000,20000";
    for (const [end, to] of ways()) {
      expect(await end.transfer("tcp", to, String(bytes))).toBe("same\n");
      expect(await end.transfer("udp", to, udp)).toBe("same\n");
    }
  }

  /** Bytes a frame on average, towards the right. */
  const average = (link: Link): number => {
    const { bytesOut, framesOut } = link.stats();
    return bytesOut / framesOut;
  };

  test("both ends take them: super-frames pass", async () => {
    const [one, other] = await tunnel();
    await transfers(8 << 20);
    expect(average(one)).toBeGreaterThan(4000);
    expect([one, other].map((link) => link.stats().refused)).toEqual([0, 0]);
  }, 60_000);

  test("UDP in segments (USO) passes as one frame", async () => {
    const [one] = await tunnel();
    for (const [end, to] of ways()) expect(await end.transfer("gso", to, "1200")).toBe("same\n");
    expect(one.stats().refused).toBe(0);
    expect(average(one)).toBeGreaterThan(1500);
  }, 60_000);

  const neighbours: [string, Parameters<typeof tunnel>][] = [
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
    ["a guarded end", [{}, { guard: "52:54:00:00:00:01" }]],
  ];
  for (const [name, options] of neighbours) {
    test(name, async () => {
      const made = await tunnel(...options);
      await transfers(2 << 20);
      for (const [end, to] of ways()) expect(await end.transfer("gso", to, "1000")).toBe("same\n");
      if (options[1]?.guard === undefined) {
        expect(made.map((link) => link.stats().refused)).toEqual([0, 0]);
      }
    }, 60_000);
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
      const made = await tunnel();
      await left.set(where, device, ...changes);
      await transfers(2 << 20);
      expect(made.map((link) => link.stats().refused)).toEqual([0, 0]);
      await left.set(where, device, ...ALL_ON);
    }, 60_000);
  }

  test("tagged super-frames, as a machine with VLANs sends them: the same segments at the other end", async () => {
    await tunnel();
    const outer = openOffloadTap("inject", `/proc/${left.bridge.pid}/ns/net`);
    const { fd: probe } = openTap("probe", `/proc/${right.bridge.pid}/ns/net`);
    await ip(left.bridge, "link set inject mtu 9000 master br0 up");
    await ip(right.bridge, "link set probe mtu 9000 master br0 up");
    for (const [version, tags] of [
      [4, 1],
      [4, 2],
      [6, 1],
      [6, 2],
    ] as const) {
      const bytes = build({ version, protocol: "tcp", tags, data: 30_001, segment: 1448 });
      const expected = segments(bytes);
      expect(writeNow(outer.fd, bytes)).toBe(bytes.length);
      const got: string[] = [];
      while (got.length < expected.length) {
        const one = nextFrame(probe, (bytes) => bytes[0] === 2 && bytes[12] === 0x81, 3000);
        if (one === undefined) break;
        got.push(Buffer.from(one).toString("base64"));
      }
      expect(got).toEqual(expected);
    }
    libc.close(outer.fd);
    libc.close(probe);
  }, 60_000);

  test("jumbo frames and VLANs, one and two tags", async () => {
    const [one, other] = await tunnel();
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
        expect(await left.transfer("tcp", `${net}.2`, `${4 << 20}`)).toBe("same\n");
        expect(await right.transfer("udp", `${net}.1`, "1,1472,8000,20000")).toBe("same\n");
      }
    }
    for (const end of [left, right]) await ip(end.machine, "link set eth0 mtu 1500");
    expect([one, other].map((link) => link.stats().refused)).toEqual([0, 0]);
  }, 60_000);
});
