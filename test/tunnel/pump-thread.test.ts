/** Tunnels between two real bridges, with all that a network may do to them, and the pump thread's life. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { allocate, libc } from "../../src/linux/libc.ts";
import { openTap } from "../../src/linux/tap.ts";
import { type Link, type LinkOptions, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith, LAB } from "../lab/need.ts";
import { EXPERIMENT, frame, nextFrame, Relay, readNow, Site, streamPair, writeNow } from "./rig.ts";

const MACHINE = "52:54:00:0a:0b:0c";
const OTHER = "52:54:00:0a:0b:0d";
const BLAST = new URL("./blast.ts", import.meta.url).pathname;

/** Frames of the experiment, tagged or not. */
const ours = (bytes: Uint8Array): boolean =>
  bytes.some((byte, i) => i >= 12 && i <= 20 && byte === 0x88 && bytes[i + 1] === 0xb5);

describeWith([LAB, { programs: ["ping"] }], "a tunnel between two bridges", () => {
  let left: Site;
  let right: Site;
  let pumps: PumpThread;
  /** Links of the current test. If a failure leaves them open, they would take frames of the next test. */
  const open: Link[] = [];

  afterEach(async () => {
    for (const link of open) link.stop("cleared away");
    await eventually("all ended", Promise.all(open.splice(0).map((link) => link.ended)));
  });

  beforeAll(async () => {
    [left, right, pumps] = await Promise.all([Site.create(1), Site.create(2), PumpThread.start()]);
  });
  afterAll(async () => {
    await pumps.stop();
    await Promise.all([left[Symbol.asyncDispose](), right[Symbol.asyncDispose]()]);
  });

  /** The tunnel, up. `right` is the server: the options are its, and those in `both` of both ends. */
  async function tunnel(
    [a, b]: [number, number],
    options: Partial<LinkOptions> = {},
    both: Partial<LinkOptions> = {},
  ): Promise<{ leftLink: Link; rightLink: Link; end(): Promise<void> }> {
    const dup = (fd: number): number => libc.fcntl(fd, 1030 /* F_DUPFD_CLOEXEC */, 0);
    const common = { mtu: 1500, silence: 15_000, ...both };
    const leftLink = pumps.add({ ...common, tap: dup(left.tap), stream: a });
    const rightLink = pumps.add({ ...common, tap: dup(right.tap), stream: b, ...options });
    open.push(leftLink, rightLink);
    await eventually("up", Promise.all([leftLink.up, rightLink.up]));
    return {
      leftLink,
      rightLink,
      async end() {
        leftLink.stop("test over");
        expect((await eventually("end", rightLink.ended)).text).toMatch(
          both.framing === "original" ? /peer closed the stream/ : /test over/,
        );
        expect((await eventually("end", leftLink.ended)).text).toBe("test over");
      },
    };
  }

  /**
   * How many of `count` pings are answered. ping(8) waits for the last answers only twice as long as the
   * slowest one so far took. So it sends some more pings after these.
   */
  async function ping(count: number, size = 56, interval = 0.01): Promise<number> {
    const sent = `${count + 8}`;
    const text = await left.run(
      "ping",
      "-i",
      `${interval}`,
      "-c",
      sent,
      "-s",
      `${size}`,
      "-W",
      "5",
      right.address,
    );
    const answered = [...text.matchAll(/icmp_seq=(\d+) /g)].map((match) => Number(match[1]));
    return new Set(answered.filter((sequence) => sequence <= count)).size;
  }

  test("ping, small and of full size", async () => {
    const { leftLink, rightLink, end } = await tunnel(streamPair());
    expect(await ping(20)).toBe(20);
    expect(await ping(5, 8900)).toBe(5);
    expect(leftLink.stats().framesIn).toBeGreaterThanOrEqual(25);
    expect(rightLink.stats()).toMatchObject({ dropped: 0, refused: 0 });
    expect(rightLink.stats().framesIn).toBe(leftLink.stats().framesOut);
    await end();
  });

  test("frames are the same at the other end: tagged, doubly tagged, 60 to 9018 bytes", async () => {
    const { end } = await tunnel(streamPair());
    const heads = [[], [0x81, 0x00, 0x00, 0x05], [0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x00, 0x05]];
    for (const head of heads) {
      for (const size of [60, 1514, 1518, 9014]) {
        const body = Array.from({ length: size - 14 }, (_, i) => (i * 31) & 255);
        const sent = frame(MACHINE, [...head, ...EXPERIMENT, ...body]);
        expect(writeNow(left.probe, sent)).toBe(sent.length);
        const got = nextFrame(right.probe, ours);
        expect(got === undefined ? "lost" : Buffer.from(got).equals(sent)).toBe(true);
      }
    }
    await end();
  });

  test("the guard keeps other sources, DHCP offers and router advertisements out", async () => {
    const { rightLink, leftLink, end } = await tunnel(streamPair(), { guard: { mac: MACHINE } });
    const before = rightLink.stats().refused;
    const body = Array<number>(60).fill(0);
    // With a right checksum: a bridge may look at it.
    const ipv4 = [0x08, 0, 0x45, 0, 0, 60, 0, 1, 0, 0, 64, 17, 0x70, 0xb0, 10, 0, 0, 1, 255, 255, 255, 255];
    const offer = [...ipv4, 0, 67, 0, 68, ...EXPERIMENT, ...body];
    const address = Array<number>(32).fill(0xfe);
    const advert = [0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 58, 255, ...address, 134, 0, ...EXPERIMENT, ...body];
    const bad = [
      frame(OTHER, [...EXPERIMENT, ...body]),
      frame(MACHINE, offer),
      frame(MACHINE, [0x81, 0, 0, 5, ...offer]),
      frame(MACHINE, advert),
      frame(MACHINE, [0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, ...advert]),
    ];
    for (const one of bad) writeNow(left.probe, one);
    const good = frame(MACHINE, [...EXPERIMENT, 0xaa, ...body]);
    writeNow(left.probe, good);
    // Only the good frame arrives.
    const got = nextFrame(right.probe, (bytes) => Buffer.from(bytes).includes(Buffer.from(EXPERIMENT)));
    expect(Buffer.from(got ?? []).equals(good)).toBe(true);
    // It may overtake the others, as it is in a flow of its own. They are refused a moment later.
    await eventually("the others are refused", () => rightLink.stats().refused - before, {
      fits: (n) => n >= bad.length,
    });
    // In the other direction there is no guard.
    writeNow(right.probe, frame(OTHER, [...EXPERIMENT, ...body]));
    expect(nextFrame(left.probe, ours)).toBeDefined();
    expect(leftLink.stats().refused).toBe(0);
    await end();
  });

  const framings: [string, Partial<LinkOptions>][] = [
    ["messages", {}],
    ["the original framing", { framing: "original", mtu: 9000 }],
  ];

  test.each(framings)("%s: a stream cut at random places carries the same frames", async (_, both) => {
    const relay = new Relay(5, 700);
    const { leftLink, rightLink, end } = await tunnel(relay.ends, {}, both);
    expect(await ping(50, 1400)).toBe(50);
    // Slowly, because the queue drops frames that a slow stream does not take in time.
    expect(await ping(20, 8900, 0.05)).toBe(20);
    expect([leftLink.stats().dropped, rightLink.stats().dropped]).toEqual([0, 0]);
    await end();
    await relay.stop();
  });

  test.each(framings)(
    "%s: both directions saturated for 120 000 datagrams: frames are lost, and then all is well",
    async (_, both) => {
      const relay = new Relay(6, 30_000);
      const { leftLink, rightLink, end } = await tunnel(relay.ends, {}, both);
      expect(await ping(1)).toBe(1);
      const rss = process.memoryUsage().rss;
      const blast = (from: Site, to: Site): Promise<string> =>
        from.run(process.execPath, BLAST, to.address, "60000");
      const blasts = Promise.all([blast(left, right), blast(right, left)]);
      await eventually("end of the blast", blasts, { within: 100_000 });
      expect(leftLink.stats().dropped).toBeGreaterThan(0);
      expect(rightLink.stats().dropped).toBeGreaterThan(0);
      expect(process.memoryUsage().rss - rss).toBeLessThan(64 << 20);
      // At once there may still be what waits on the way, as the original framing has no window.
      await eventually("all pings are answered", () => ping(20), { fits: (answered) => answered === 20 });
      await end();
      await relay.stop();
    },
    150_000,
  );

  test("a link at full speed leaves time to the other 19 in its thread", async () => {
    const links: Link[] = [];
    const ns = `/proc/${left.holder.pid}/ns/net`;
    for (let i = 0; i < 10; i++) {
      for (const stream of streamPair()) {
        const { fd: tap } = openTap("many%d", ns);
        links.push(pumps.add({ tap, stream, mtu: 1500, silence: 15_000 }));
      }
    }
    await eventually("all up", Promise.all(links.map((link) => link.up)));
    const { leftLink, end } = await tunnel(streamPair());
    const busy = left.run(process.execPath, BLAST, right.address, "60000");
    // Pings of the idle links are answered while the busy one runs: their round trip time is known.
    await eventually("end of the blast", busy, { within: 100_000 });
    expect(leftLink.stats().framesOut).toBeGreaterThan(1000);
    for (const link of links) expect(link.stats().rtt).toBeGreaterThan(0);
    for (const link of links) link.stop("test over");
    for (const end of await eventually("all ended", Promise.all(links.map((link) => link.ended)))) {
      expect(end.text).toMatch(/test over/);
    }
    expect(await ping(3)).toBe(3);
    await end();
  }, 120_000);

  test("a link that cannot begin ends and closes its file descriptors, and the thread goes on", async () => {
    const [stream, peer] = streamPair();
    const tap = libc.fcntl(left.tap, 1030, 0);
    const ssh = allocate(10);
    ssh.bytes.fill(0xff);
    const link = pumps.add({ tap, stream, mtu: 1500, silence: 5000, ssh });
    expect((await eventually("its end", link.ended)).text).toMatch(
      /^internal error in the pump thread: malformed SSH data/,
    );
    expect(ssh.bytes.every((byte) => byte === 0)).toBe(true); // keys would be in it
    expect(readNow(peer)).toBeUndefined();
    libc.close(peer);
    const [a, b] = streamPair();
    const next = pumps.add({ tap: libc.fcntl(left.tap, 1030, 0), stream: a, mtu: 1500, silence: 5000 });
    next.stop("enough");
    expect((await eventually("its end", next.ended)).text).toBe("enough");
    libc.close(b);
  });

  test("links come and go by the hundred, and no file descriptor stays", async () => {
    const open = (): number =>
      [...new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })].length;
    const before = open();
    for (let round = 0; round < 10; round++) {
      const links = Array.from({ length: 10 }, () => streamPair()).flatMap((pair) =>
        pair.map((stream) =>
          pumps.add({ tap: libc.fcntl(left.tap, 1030, 0), stream, mtu: 1500, silence: 5000 }),
        ),
      );
      for (const link of links) link.stop(`round ${round}`);
      await eventually("all ended", Promise.all(links.map((link) => link.ended)));
    }
    expect(open()).toBeLessThanOrEqual(before);
  });
});

describeWith(LAB, "the pump thread", () => {
  test("stop ends the links with a reason; a second stop does nothing", async () => {
    const site = await Site.create(1);
    const pumps = await PumpThread.start();
    const [a, b] = streamPair();
    const link = pumps.add({ tap: site.tap, stream: a, mtu: 1500, silence: 5000 });
    await Promise.all([pumps.stop(), pumps.stop()]);
    expect((await link.ended).text).toMatch(/stopping/);
    expect(() => pumps.add({ tap: -1, stream: b, mtu: 1500, silence: 5000 })).toThrow(/not running/);
    await site[Symbol.asyncDispose]();
  });

  test("a thread that dies is reported, and its links end", async () => {
    const site = await Site.create(1);
    const pumps = await PumpThread.start(new URL("./crashing-thread.ts", import.meta.url));
    const [a, b] = streamPair();
    const link = pumps.add({ tap: site.tap, stream: a, mtu: 1500, silence: 5000 });
    expect((await eventually("report", pumps.failed)).message).toMatch(/thread failed: a fault for the test/);
    expect((await eventually("end", link.ended)).text).toMatch(/thread failed/);
    expect(readNow(b)).toBeUndefined(); // its file descriptors are closed
    libc.close(b);
    await pumps.stop();
    await site[Symbol.asyncDispose]();
  });
});
