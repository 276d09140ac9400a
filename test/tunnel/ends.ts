/** Two machines, each on a bridge of its own, and a tunnel with offloads between the two bridges. */

import { expect } from "bun:test";
import { run } from "../../src/linux/run.ts";
import { openOffloadTap, openTap } from "../../src/linux/tap.ts";
import { type Link, type LinkOptions, PumpThread } from "../../src/tunnel/pump-thread.ts";
import { eventually } from "../lab/eventually.ts";
import { Holder } from "../lab/namespace.ts";
import { streamPair } from "./rig.ts";

const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];
const TRANSFER = program("transfer.ts");
const FEATURES = program("features.ts");

/** A host with a bridge for the tunnel's TAP, and a machine on that bridge. */
export class End {
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

  /** Transfers one after the other, each as `transfer.ts` takes it: what it prints of each. */
  async transfer(...all: string[][]): Promise<string[]> {
    // It gives up itself before that.
    const timeout = 30_000 + 120_000 * all.length;
    const said = await run([...this.machine.enterNetwork(), ...TRANSFER, ...all.flat()], { timeout });
    return said.trimEnd().split("\n");
  }

  /** Switch offloads: a device, what is to change of it, and more devices behind. */
  set(where: "bridge" | "machine", ...changes: string[]): Promise<string> {
    return run([...this[where].enterNetwork(), ...FEATURES, ...changes]);
  }

  async stop(): Promise<void> {
    this.server.kill();
    await Promise.all([this.bridge.stop(), this.machine.stop()]);
  }
}

export async function ip(holder: Holder, ...lines: string[]): Promise<void> {
  await run([...holder.enterNetwork(), "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

/** `plain`: with a TAP without virtio-net headers. */
export type Options = Partial<LinkOptions> & { plain?: boolean };

export const ALL_OFF = ["tx=off", "sg=off", "tso=off", "gso=off", "gro=off"];
export const ALL_ON = ["tx=on", "sg=on", "tso=on", "gso=on", "gro=on"];

export class Ends {
  #links: Link[] = [];

  private constructor(
    readonly left: End,
    readonly right: End,
    readonly pumps: PumpThread,
  ) {}

  static async create(): Promise<Ends> {
    return new Ends(...(await Promise.all([End.create(1), End.create(2), PumpThread.start()])));
  }

  /** A tunnel that is up. @param streams a socketpair unless given. */
  async tunnel(
    one: Options = {},
    other: Options = {},
    streams: readonly [number, number] = streamPair(),
  ): Promise<[Link, Link]> {
    const add = (end: End, stream: number, { plain = false, ...more }: Options): Link =>
      this.pumps.add({ ...end.tap(!plain), stream, mtu: 1500, silence: 15_000, ...more });
    const made: [Link, Link] = [add(this.left, streams[0], one), add(this.right, streams[1], other)];
    this.#links = made;
    for (const end of [this.left, this.right]) await ip(end.bridge, "link set tunnel mtu 9000 master br0 up");
    await eventually("up", Promise.all(made.map((link) => link.up)));
    return made;
  }

  /** End the tunnel of the last test. */
  async clear(): Promise<void> {
    for (const link of this.#links) link.stop("test over");
    await Promise.all(this.#links.splice(0).map((link) => eventually("end", link.ended)));
  }

  /** Who sends to which addresses: IPv4 and IPv6, in both directions. */
  get ways(): [End, [string, string]][] {
    const { left, right } = this;
    return [
      [left, ["10.78.0.2", "fd78::2"]],
      [right, ["10.78.0.1", "fd78::1"]],
    ];
  }

  /** Transfers each way one after the other; each is told without its address. All must come out the same. */
  async transfers(...kinds: [what: string, argument: string][]): Promise<void> {
    for (const [end, addresses] of this.ways) {
      const all = addresses.flatMap((to) => kinds.map(([what, argument]) => [what, to, argument]));
      expect(await end.transfer(...all)).toEqual(all.map(() => "same"));
    }
  }

  async stop(): Promise<void> {
    await this.pumps.stop();
    await Promise.all([this.left.stop(), this.right.stop()]);
  }
}
