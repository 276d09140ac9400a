/**
 * What suffers the chaos: a World with two proxies beside each other and three devices. Each of its programs is
 * started again when it ends. Behind each device is a machine on its bridge, which pings the server without end.
 */

import { existsSync } from "node:fs";
import { ApiClient } from "../../src/api/client.ts";
import { DEVICE, SERVER } from "../../src/api/routes.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import { signal } from "../lab/proc.ts";
import type { LabProcess } from "../lab/process.ts";
import { SSHD_COMMAND } from "../lab/sshd.ts";
import { serverCommand, serviceEnvironment, WALT_NET, World, type WorldDevice } from "../lab/world.ts";
import { clockEnvironment } from "./clock.ts";
import { Kept } from "./kept.ts";
import { Pings } from "./pings.ts";

/** Lines of the [server] table: silence is noticed soon, and certificates are renewed again and again. */
const SERVER_LINES = 'silence = "3s"\ncertificate_validity = "1m"';
const DEVICE_LINES = 'silence = "3s"\n[device.vm]\nstart = false\n';
/** ms between two looks whether a bridge was made anew. */
const PLUG = 50;

/** A proxy of the world. */
export type SiteProxy = World["proxies"][number];

/** A device, and the machine behind it. */
export class ChaosDevice {
  kept: Kept | undefined;
  pings: Pings | undefined;
  #node: Host | undefined;

  constructor(
    readonly device: WorldDevice,
    /** The address of the machine on its bridge. */
    readonly address: string,
    /** The environment of its supervisor. */
    readonly env: Record<string, string>,
  ) {}

  get host(): Host {
    return this.device.host;
  }

  /** Start the supervisor, and start it again whenever it ends. */
  start(): void {
    this.device.env = this.env;
    this.kept = new Kept(() => this.device.start());
  }

  /** End the supervisor. */
  async stop(): Promise<void> {
    await this.kept?.stop();
    this.kept = undefined;
  }

  /** Wait until it has credentials, and put a machine with the node's MAC address on its bridge. */
  async plug(): Promise<void> {
    const { mac } = await eventually(`${this.host.name} has credentials`, () => this.credentials(), {
      within: 120_000,
      every: 20,
    });
    if (this.#node !== undefined) {
      await this.#node.ip(`link set eth0 address ${mac}`);
      return;
    }
    await eventually("its bridge", () => existsSync(this.host.path("/sys/class/net/walt-br")));
    this.#node = await this.device.plugNode(this.address, mac);
    this.pings = new Pings(this.#node, WALT_NET);
  }

  /** Put the machine on the bridge again, if that was made anew. */
  async replug(): Promise<void> {
    const isThere = (name: string): boolean => existsSync(this.host.path(`/sys/class/net/${name}`));
    if (!isThere("to-node") || !isThere("walt-br") || isThere("to-node/master")) return;
    await this.host.ip("link set to-node master walt-br up").catch(() => {}); // it is gone again
  }

  /** What the device has on its disk; undefined when it has no credentials. */
  async credentials(): Promise<{ node: string; mac: string } | undefined> {
    const file = Bun.file(this.host.path("/var/lib/walt-vpn/credentials.json"));
    return (await file.exists()) ? ((await file.json()) as { node: string; mac: string }) : undefined;
  }

  /** Whether it has renewed its certificate once. */
  get hasRenewed(): boolean {
    return existsSync(this.host.path("/var/lib/walt-vpn/server-keys.json"));
  }

  /** Whether it says that its tunnel is up. */
  async isUp(): Promise<boolean> {
    const socket = this.host.path("/run/walt-vpn/device.sock");
    const status = new ApiClient({ socket, start: "" }).call(DEVICE.status, {});
    return await status.then(
      ({ tunnel }) => tunnel === "up",
      () => false,
    );
  }
}

export class Site implements AsyncDisposable {
  readonly devices: ChaosDevice[] = [];
  readonly #kept = new Map<Host, Kept>();
  #plugger: Timer | undefined;

  private constructor(readonly world: World) {}

  /** All devices are in, and their nodes ping. */
  static async create(): Promise<Site> {
    const world = await World.create({ server: SERVER_LINES });
    const site = new Site(world);
    try {
      await site.#begin();
      return site;
    } catch (error) {
      await site[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    const { world } = this;
    await world.addEntrypoint("gate2");
    const token = (await world.must(world.server, "vpn", "token", "add", "--uses", "1000")).trim();
    const [one = "", two = ""] = world.proxies.map(({ name }) => name);
    for (const [index, entrypoints] of [[one], [two, one], [one, two]].entries()) {
      const setup = ["--token", token];
      const device = await world.device(`device${index + 1}`, { entrypoints, toml: DEVICE_LINES, setup });
      const env = clockEnvironment(device.host);
      this.devices.push(new ChaosDevice(device, `192.168.192.${101 + index}`, env));
    }
    await world.stopServer();
    const env = { ...(await serviceEnvironment()), ...clockEnvironment(world.server) };
    this.#keep(world.server, serverCommand(world.binary), env, (daemon) => {
      world.daemon = daemon;
    });
    for (const proxy of world.proxies) {
      await proxy.sshd.stop();
      this.keepProxy(proxy);
    }
    for (const device of this.devices) device.start();
    await Promise.all(this.devices.map((device) => device.plug()));
    this.#plugger = setInterval(() => {
      for (const device of this.devices) void device.replug();
    }, PLUG);
  }

  #keep(
    host: Host,
    command: readonly string[],
    env: Record<string, string>,
    started: (process: LabProcess) => void = () => {},
  ): void {
    const start = (): LabProcess => {
      const process = host.spawn(command, { env });
      started(process);
      return process;
    };
    this.#kept.set(host, new Kept(start));
  }

  /** Start the proxy's sshd, and start it again whenever it ends. */
  keepProxy({ host }: SiteProxy): void {
    this.#keep(host, SSHD_COMMAND, clockEnvironment(host));
  }

  /** End the proxy's sshd; its sessions go on. */
  async endProxy({ host }: SiteProxy): Promise<void> {
    await this.#kept.get(host)?.stop();
  }

  /** The hosts with WalT on them. */
  get hosts(): readonly Host[] {
    const { world, devices } = this;
    return [world.server, ...world.proxies.map(({ host }) => host), ...devices.map(({ host }) => host)];
  }

  /** Send a signal to a process of a host. */
  signal(pid: number, name: NodeJS.Signals): void {
    const all = [...this.#kept.values(), ...this.devices.map(({ kept }) => kept)];
    const owner = all.find((kept) => kept?.process?.pid === pid)?.process;
    if (owner === undefined) signal(pid, name);
    else owner.kill(name);
  }

  /** Whether both ends of each tunnel say that it is up, and each node is answered. */
  async isUp(): Promise<boolean> {
    if (!this.devices.every(({ pings }) => pings?.areAnswered)) return false;
    const nodes = await this.world.api.call(SERVER.nodes, {}).catch(() => []);
    if (nodes.filter(({ state }) => state === "up").length !== this.devices.length) return false;
    return (await Promise.all(this.devices.map((device) => device.isUp()))).every(Boolean);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#plugger);
    for (const host of this.hosts) for (const { pid } of host.processes()) this.signal(pid, "SIGCONT"); // one may be stopped
    await Promise.all([
      ...this.devices.map((device) => device.stop()),
      ...[...this.#kept.values()].map((kept) => kept.stop()),
    ]);
    await this.world[Symbol.asyncDispose]();
  }
}
