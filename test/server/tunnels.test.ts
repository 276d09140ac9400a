/** Devices' channels become nodes' tunnels, one at a time each: with TAPs, links and a walt-net that are played, without root. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { closeSync, existsSync, openSync } from "node:fs";
import type { NodeState } from "../../src/api/messages.ts";
import type { End } from "../../src/end.ts";
import { tunnelName } from "../../src/enrolment/commands.ts";
import type { Log } from "../../src/log.ts";
import type { WaltNet } from "../../src/server/net/walt-net.ts";
import type { Device } from "../../src/server/registry.ts";
import { type Over, Tunnels } from "../../src/server/tunnels.ts";
import type { Owner } from "../../src/ssh/server/peer.ts";
import { LINK_COUNTERS, type LinkStats } from "../../src/tunnel/counters.ts";
import type { LaneOptions, Link, LinkOptions, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { eventually } from "../lab/eventually.ts";
import { states } from "../tunnel/transport/hand.ts";

const DEVICE = {
  ...{ id: 7, node: "a-laboratory", defaultName: "vpn-010203", mac: "52:54:00:01:02:03" },
} as Device;
const OTHER = {
  ...{ id: 8, node: "a-laboratory-too", defaultName: "vpn-0a0b0c", mac: "52:54:00:0a:0b:0c" },
} as Device;
const VIA = "gate.example.org:22";
const FROM = "192.0.2.1";

/** A link in the hands of a test. */
class PlayedLink {
  readonly #up = Promise.withResolvers<number>();
  readonly #ended = Promise.withResolvers<End>();
  readonly counters = Object.fromEntries(Object.keys(LINK_COUNTERS).map((name) => [name, 0]));
  /** Reasons for which it was closed. */
  readonly stopped: string[] = [];

  constructor(readonly options: LinkOptions) {}

  readonly up = this.#up.promise;
  readonly ended = this.#ended.promise;
  stats = (): LinkStats => ({ ...this.counters }) as unknown as LinkStats;

  /** Its further lanes. */
  readonly lanes: PlayedLink[] = [];
  addLane = (options: LaneOptions): PlayedLink => {
    const lane = new PlayedLink({ ...this.options, tap: -1, ...options });
    this.lanes.push(lane);
    return lane;
  };

  rise(mtu = 1500): void {
    this.#up.resolve(mtu);
  }

  end(text: string): void {
    for (const fd of [this.options.tap, this.options.stream]) if (fd >= 0) closeSync(fd); // as the pump does
    this.#ended.resolve({ kind: "stopped", text });
  }

  stop(reason: string): void {
    this.stopped.push(reason);
    if (this.stopped.length === 1) this.end(reason);
  }
}

/** A connection that a device opened for a tunnel. */
class PlayedConnection {
  /** What the device was told instead of being given a tunnel. */
  readonly failed: string[] = [];
  /** How often who had taken the connection has given it up. */
  over = 0;
  /** Settles when the connection is free to be taken; at once unless a test holds it up. */
  ready: Promise<void> = Promise.resolve();
  readonly fd = openSync("/dev/null", "r");
  readonly state = states()[0];
  /** Ends what was made of the connection: the listener may want that. */
  stop: (reason: string) => void = () => {};

  /** As `Tunnels.open` wants it. */
  get request(): Parameters<Tunnels["open"]>[1] {
    const release = async (owner: Owner) => {
      this.stop = (reason) => owner.stop(reason);
      await this.ready;
      void owner.ended.then(() => this.over++);
      return { fd: this.fd, state: this.state };
    };
    return { release, refuse: (text: string) => void this.failed.push(text) };
  }
}

/** Further lanes of all devices at most. */
const LANES_OF_ALL = 5;

let links: PlayedLink[];
let ports: string[];
/** How often all ports were removed at once. */
let removed: number;
let lowered: [string, number][];
let lines: string[];
let changes: [string, NodeState, string][];
/** Of tunnels that went down. */
let ends: Over[];
/** Nodes that were renamed, by their names before. */
let names: Map<string, string>;
let tapsOpened: { name: string; offload: boolean; fd: number }[];
/** What goes wrong when a TAP joins walt-net. */
let refusal: string | undefined;
/** Why a tunnel that is up stays. */
let kept: string | undefined;
let tunnels: Tunnels;

beforeEach(() => {
  [links, ports, lowered, lines, changes, ends, tapsOpened] = [[], [], [], [], [], [], []];
  names = new Map();
  removed = 0;
  refusal = kept = undefined;
  const add = (text: string, fields = {}): void => void lines.push(`${text} ${JSON.stringify(fields)}`);
  const log: Log = { debug() {}, info: add, warn: add, error: add, with: () => log };
  const net: Partial<WaltNet> = {
    mtu: 9000,
    addPort: async (name) => {
      if (refusal !== undefined) throw new Error(refusal);
      ports.push(name);
    },
    rulesFor: ({ mac }: Device) => ({ mac }),
    removePorts: async () => void removed++,
    lowerPort: async (name, mtu) => void lowered.push([name, mtu]),
  };
  const pumps: Pick<PumpThread, "add" | "stopLinks"> = {
    stopLinks: async (text) => {
      expect(text).not.toBe("");
    },
    add: (options) => {
      const link = new PlayedLink(options);
      links.push(link);
      return link as unknown as Link;
    },
  };
  const tap = (name: string, offload: boolean): number => {
    const fd = openSync("/dev/null", "r");
    tapsOpened.push({ name, offload, fd });
    return fd;
  };
  tunnels = new Tunnels(
    pumps,
    net as WaltNet,
    10_000,
    () => log,
    ({ node }) => names.get(node) ?? node,
    ({ node }, state, via, over) => {
      changes.push([node, state, via]);
      if (over !== undefined) ends.push(over);
    },
    () => kept,
    {
      openTap: (name) => ({ name, fd: tap(name, false), offload: undefined }),
      openOffloadTap: (name) => ({ name, fd: tap(name, true), offload: 7 }),
    } as Tunnels["taps"],
    0,
    LANES_OF_ALL,
  );
});
afterEach(() => tunnels.stop("the test is over"));

/** A device's tunnel is being opened; its link, once there is one. Without `via` it is in the original framing. */
async function open(device = DEVICE, via: string | null = VIA) {
  const connection = new PlayedConnection();
  const before = links.length;
  const done = tunnels.open(device, connection.request, via ?? undefined, FROM);
  const link = await eventually("the link", () => links[before]);
  return { connection, done, link };
}

async function up(device = DEVICE, mtu = 9000) {
  const opened = await open(device);
  opened.link.rise(mtu);
  await eventually("the tunnel is up", () => tunnels.info(device)?.state === "up");
  return opened;
}

const isOpen = (fd: number): boolean => existsSync(`/proc/self/fd/${fd}`);

describe("a tunnel", () => {
  test("is a TAP in walt-net, joined to the device's connection, and guarded by the node's MAC address", async () => {
    const { link, connection } = await open();
    expect(tapsOpened.map(({ name, offload }) => [name, offload])).toEqual([["tap-vpn-010203", true]]);
    expect(ports).toEqual(["tap-vpn-010203"]);
    expect(link.options).toMatchObject({
      ...{ tap: tapsOpened[0]?.fd, offload: 7, stream: connection.fd },
      ...{ mtu: 9000, silence: 10_000, guard: { mac: DEVICE.mac } },
    });
    expect(link.options.ssh).toBeDefined();
    expect(tunnels.info(DEVICE)).toMatchObject({ state: "down", via: VIA, mtu: undefined });
    expect(tunnels.info(OTHER)).toBeUndefined();
  });

  test("in the original framing has a TAP without offloads, 1500 bytes, and says no way", async () => {
    const { link } = await open(DEVICE, null);
    expect(tapsOpened.map(({ offload }) => offload)).toEqual([false]);
    expect(link.options).toMatchObject({ mtu: 1500, guard: { mac: DEVICE.mac } });
    link.rise();
    await eventually("the tunnel is up", () => changes.length > 0);
    expect(changes).toEqual([[DEVICE.node, "up", ""]]);
  });

  test("is up when both ends greeted, and down when the link ends; who watches is told", async () => {
    const { link, done, connection } = await up();
    expect(tunnels.info(DEVICE)).toMatchObject({ state: "up", mtu: 9000 });
    expect(changes).toEqual([[DEVICE.node, "up", VIA]]);
    names.set(DEVICE.node, "renamed-meanwhile");
    link.end("the peer was silent");
    await done;
    expect(tunnels.info(DEVICE)).toMatchObject({ state: "down", via: VIA });
    expect(changes).toEqual([
      [DEVICE.node, "up", VIA],
      ["renamed-meanwhile", "down", VIA],
    ]);
    expect(ends).toEqual([
      { end: { kind: "stopped", text: "the peer was silent" }, lasted: expect.any(Number) },
    ]);
    expect(lines.join("\n")).toContain('"node":"renamed-meanwhile"');
    expect(connection.over).toBe(1);
    expect(lines.join("\n")).toContain('"reason":"the peer was silent"');
  });

  test("that was never up is no change", async () => {
    const { link, done } = await open();
    link.end("malformed");
    await done;
    expect(changes).toEqual([]);
  });

  test("whose device agreed to less has a port with less", async () => {
    await up(DEVICE, 1500);
    await up(OTHER, 9000);
    expect(lowered).toEqual([["tap-vpn-010203", 1500]]);
  });
});

describe("one tunnel a device", () => {
  test("the newer connection takes the place of the one before, whose end is awaited", async () => {
    const first = await up();
    const second = await open();
    expect(first.link.stopped).toEqual(["a newer connection of this device took its place"]);
    await first.done;
    expect(first.connection.over).toBe(1);
    second.link.rise();
    await eventually("the second is up", () => tunnels.info(DEVICE)?.state === "up");
    // The node never was down for who watches.
    expect(changes.map(([, state]) => state)).toEqual(["up", "up"]);
  });

  test("other devices keep theirs", async () => {
    const other = await up(OTHER);
    await up();
    expect(other.link.stopped).toEqual([]);
  });
});

describe("stopping", () => {
  test("ends the device's tunnel with the reason, and is done when it is gone", async () => {
    const one = await up();
    const other = await up(OTHER);
    await tunnels.stop("revoked", DEVICE);
    expect([one.link.stopped, other.link.stopped]).toEqual([["revoked"], []]);
    expect(one.connection.over).toBe(1);
    await tunnels.stop("no tunnel at all", { ...DEVICE, id: 99 });
  });

  test("counts while there is no link yet: none is made, and no descriptor stays", async () => {
    const connection = new PlayedConnection();
    const { promise, resolve } = Promise.withResolvers<void>();
    connection.ready = promise;
    const done = tunnels.open(DEVICE, connection.request, VIA, FROM);
    await eventually("the port", () => ports.length === 1);
    const closing = tunnels.stop("revoked", DEVICE);
    resolve();
    await Promise.all([closing, done]);
    expect(links).toEqual([]);
    expect([tapsOpened[0]?.fd ?? -1, connection.fd].map(isOpen)).toEqual([false, false]);
    expect(connection.over).toBe(1);
  });

  test("while an older tunnel still ends: the device is told", async () => {
    const first = await up();
    first.link.stop = (reason) => void first.link.stopped.push(reason); // it takes its time
    const connection = new PlayedConnection();
    const done = tunnels.open(DEVICE, connection.request, VIA, FROM);
    const closing = tunnels.stop("the server stops", DEVICE);
    first.link.end("at last");
    await Promise.all([done, closing]);
    expect(connection.failed).toEqual(["the server stops"]);
    expect(links).toHaveLength(1);
    closeSync(connection.fd);
  });

  test("all of them", async () => {
    const all = [await up(), await up(OTHER)];
    await tunnels.stop("the server stops");
    expect(all.map(({ link }) => link.stopped)).toEqual([["the server stops"], ["the server stops"]]);
  });
});

describe("what goes wrong", () => {
  test("with the TAP is the server's: the log tells why, the device only that", async () => {
    refusal = "ip link set master failed: no such bridge";
    const connection = new PlayedConnection();
    await tunnels.open(DEVICE, connection.request, VIA, FROM);
    expect(connection.failed).toEqual([
      "the server could not make this node's network interface; its log tells why",
    ]);
    expect(lines.join()).toContain("no such bridge");
    expect(isOpen(tapsOpened[0]?.fd ?? -1)).toBe(false);
    closeSync(connection.fd);
  });

  test("with the connection is the client's, and leaves no TAP", async () => {
    const connection = new PlayedConnection();
    connection.ready = Promise.reject(new Error("the client went away"));
    await tunnels.open(DEVICE, connection.request, VIA, FROM);
    expect(connection.failed).toEqual(["the client went away"]);
    expect(isOpen(tapsOpened[0]?.fd ?? -1)).toBe(false);
    closeSync(connection.fd);
    // The device may come again.
    await up();
  });
});

test("counters go on over a device's tunnels", async () => {
  expect(tunnels.totals(DEVICE)).toMatchObject({ tunnels: 0, framesIn: 0 });
  const first = await up();
  first.link.counters["framesIn"] = 5;
  expect(tunnels.totals(DEVICE)).toMatchObject({ tunnels: 1, framesIn: 5 });
  first.link.end("over");
  await first.done;
  expect(tunnels.totals(DEVICE)).toMatchObject({ tunnels: 1, framesIn: 5 });
  expect(tunnels.info(DEVICE)?.stats).toBeUndefined();
  const second = await up();
  second.link.counters["framesIn"] = 2;
  expect(tunnels.info(DEVICE)?.stats?.framesIn).toBe(2);
  expect(tunnels.totals(DEVICE)).toMatchObject({ tunnels: 2, framesIn: 7 });
  expect(tunnels.totals(OTHER)).toMatchObject({ tunnels: 0, framesIn: 0 });
});

test("a device opens some dozen tunnels at once, and not more; another one is served", async () => {
  for (let i = 0; i < 32; i++) {
    const { link, done } = await open();
    link.end("it went");
    await done;
  }
  const late: PlayedConnection[] = [];
  for (let i = 0; i < 32 && late.every(({ failed }) => failed.length === 0); i++) {
    const connection = new PlayedConnection();
    late.push(connection);
    const before = links.length;
    const done = tunnels.open(DEVICE, connection.request, VIA, FROM);
    await eventually("an answer", () => links[before] !== undefined || connection.failed.length > 0);
    links[before]?.end("it went");
    await done;
  }
  expect(late.at(-1)?.failed).toEqual(["a-laboratory asks for tunnels too often"]);
  await open(OTHER);
});

test("all tunnels end at once, with one removal of all ports", async () => {
  const [one, two] = [await up(), await up(OTHER)];
  await tunnels.stopAll("the server stops");
  expect([one.link.stopped[0], two.link.stopped[0]]).toEqual(["the server stops", "the server stops"]);
  expect(removed).toBe(1);
});

test("a tunnel that stays: another connection of the device is told why, and gets it once the tunnel is free", async () => {
  const first = await up();
  kept = "two devices use this key";
  const second = new PlayedConnection();
  await tunnels.open(DEVICE, second.request, VIA, FROM);
  expect([second.failed, first.link.stopped]).toEqual([["two devices use this key"], []]);
  first.link.end("its device has gone");
  await eventually("the tunnel is down", () => tunnels.info(DEVICE)?.state === "down");
  expect((await up()).connection.failed).toEqual([]);
});

describe("further lanes", () => {
  /** A device whose tunnel is up. */
  async function up(device: Device): Promise<{ link: PlayedLink; name: string }> {
    const connection = new PlayedConnection();
    const before = links.length;
    void tunnels.open(device, connection.request, VIA, FROM);
    const link = await eventually("a link", () => links[before]);
    link.rise();
    await eventually("it is up", () => tunnels.info(device)?.state === "up");
    return { link, name: tunnelName(connection.state.session.id) };
  }

  test("a lane joins the tunnel of its name, and its end frees its place", async () => {
    const { link, name } = await up(DEVICE);
    const connection = new PlayedConnection();
    const over = tunnels.addLane(DEVICE, connection.request, name, FROM);
    const lane = await eventually("a lane", () => link.lanes[0]);
    expect([lane.options.stream, lane.options.tap]).toEqual([connection.fd, -1]);
    connection.stop("too many connections");
    await over;
    expect([lane.stopped, connection.over, connection.failed]).toEqual([["too many connections"], 1, []]);
    expect([link.stopped, tunnels.info(DEVICE)?.state]).toEqual([[], "up"]);
    link.end("over");
  });

  test("no lane for a tunnel of another name, of another device, or that is not up", async () => {
    const { link, name } = await up(DEVICE);
    for (const [device, said] of [
      [DEVICE, "0".repeat(32)],
      [OTHER, name],
    ] as const) {
      const connection = new PlayedConnection();
      await tunnels.addLane(device, connection.request, said, FROM);
      expect(connection.failed).toEqual(["the tunnel of this lane is not up"]);
      closeSync(connection.fd);
    }
    expect(link.lanes).toEqual([]);
    link.end("over");
  });

  test("at most four further lanes", async () => {
    const { link, name } = await up(DEVICE);
    const all = Array.from({ length: 6 }, () => new PlayedConnection());
    const over = all.map(({ request }) => tunnels.addLane(DEVICE, request, name, FROM));
    await eventually("four lanes", () => link.lanes.length === 4);
    expect(all.map(({ failed }) => failed)).toEqual([
      ...[[], [], [], []],
      ...[["a tunnel has at most 5 lanes"], ["a tunnel has at most 5 lanes"]],
    ]);
    for (const { fd } of all.slice(4)) closeSync(fd);
    for (const lane of link.lanes) lane.end("over");
    await Promise.all(over);
    link.end("over");
  });

  test("a lane that is to end before it is one ends as soon as it is", async () => {
    const { link, name } = await up(DEVICE);
    const connection = new PlayedConnection();
    const ready = Promise.withResolvers<void>();
    connection.ready = ready.promise;
    const over = tunnels.addLane(DEVICE, connection.request, name, FROM);
    connection.stop("too many connections");
    ready.resolve();
    await over;
    expect(link.lanes.map(({ stopped }) => stopped)).toEqual([["too many connections"]]);
    link.end("over");
  });

  test("the lanes of all devices leave connections to the tunnels", async () => {
    const [one, other] = [await up(DEVICE), await up(OTHER)];
    const asked = [DEVICE, OTHER, DEVICE, OTHER, DEVICE, OTHER].map((device) => ({
      device,
      it: new PlayedConnection(),
    }));
    const over = asked.map(({ device, it }) =>
      tunnels.addLane(device, it.request, device === DEVICE ? one.name : other.name, FROM),
    );
    await eventually("five lanes", () => one.link.lanes.length + other.link.lanes.length === LANES_OF_ALL);
    const refusal = "the server has 5 further lanes already, as many as it takes";
    expect(asked.map(({ it }) => it.failed)).toEqual([[], [], [], [], [], [refusal]]);
    closeSync(asked[5]?.it.fd ?? -1);
    for (const lane of [...one.link.lanes, ...other.link.lanes]) lane.end("over");
    await Promise.all(over);
    const next = new PlayedConnection();
    const again = tunnels.addLane(OTHER, next.request, other.name, FROM);
    await eventually("a lane in a free place", () => other.link.lanes.length === 3);
    other.link.lanes.at(-1)?.end("over");
    await again;
    for (const { link } of [one, other]) link.end("over");
  });
});
