/** A server with many devices, light or real, straight or through one proxy: the ways back, and what they cost. */

import { generateKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { eventually } from "../../lab/eventually.ts";
import type { Host } from "../../lab/host.ts";
import { INTERNET } from "../../lab/lab.ts";
import type { LabProcess } from "../../lab/process.ts";
import { SSHD_COMMAND } from "../../lab/sshd.ts";
import { World } from "../../lab/world.ts";
import { memoryOf, processorTime } from "../tunnel/memory.ts";
import type { CrowdConfig } from "./crowd.ts";
import { type Back, backOf, upSince } from "./tally.ts";

/** Who the devices are. */
export interface FleetOptions {
  readonly devices: number;
  /** `light`: the device's own code, many in one process; `real`: a supervisor each. */
  readonly kind: "light" | "real";
  /** Through one proxy's sshd, or straight to the server. */
  readonly proxy: boolean;
  readonly say: (line: string) => void;
}

export interface FleetFigures {
  readonly devices: number;
  readonly kind: "light" | "real";
  readonly proxy: boolean;
  /** Seconds after the start, after the server was ready again, and after the proxy's sshd was there again. */
  readonly start: Back;
  readonly server: Back;
  readonly sshd: Back | null;
  /** Connections that the proxy's sshd dropped by MaxStartups, at each of the three. */
  readonly dropped: { readonly start: number; readonly server: number; readonly sshd: number } | null;
  /** Of the daemon, for each idle device: bytes, and share of a processor. */
  readonly memory: number;
  readonly load: number;
  /** Seconds that the daemon takes to stop with all tunnels up. */
  readonly stop: number;
}

const program = (name: string): string[] => [process.execPath, new URL(name, import.meta.url).pathname];
const REGISTRY = "/var/lib/walt-vpn/registry.sqlite";
/** sshd's default, said so that it cannot be another one here; VERBOSE logs each connection that it drops. */
const SSHD_LINES = "MaxStartups 10:30:100\nLogLevel VERBOSE\n";
/** ms for which the proxy's sshd is away. */
const AWAY = 10_000;
/** ms in which the daemon comes to rest, and for which its processor time is measured. */
const SETTLE = 10_000;
/** ms within which all must be up. */
const PATIENCE = 300_000;
/** Light devices behind one address, and so many of all that begin in a second. */
const AN_ADDRESS = 125;
const START = 100;
/** Hosts that are made at a time. */
const TOGETHER = 8;

export class Fleet implements AsyncDisposable {
  readonly #from = { position: 0 };

  private constructor(
    readonly world: World,
    readonly options: FleetOptions,
  ) {}

  static async create(options: FleetOptions): Promise<Fleet> {
    const world = await World.create({ proxies: options.proxy ? 1 : 0 });
    try {
      const fleet = new Fleet(world, options);
      if (options.proxy) await fleet.#startSshd();
      return fleet;
    } catch (error) {
      await world[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Everything that the bench wants to know, one after the other. */
  async measure(): Promise<FleetFigures> {
    const { devices, kind, proxy, say } = this.options;
    const tell = (what: string, back: Back): void =>
      say(
        `${devices} ${kind}: ${what}: half ${back.half.toFixed(1)} s, 95 % ${back.most.toFixed(1)} s, all ${back.all.toFixed(1)} s`,
      );
    const before = await this.#rest();
    const drops = [this.#drops];
    const start = await this.#all(await this.#begin());
    tell("start", start);
    drops.push(this.#drops);
    const { memory, load } = await this.#rest();
    const stopped = performance.now();
    await this.world.daemon.stop("SIGTERM", { grace: PATIENCE });
    const stop = (performance.now() - stopped) / 1000;
    say(`the daemon has stopped after ${stop.toFixed(1)} s`);
    await this.world.startServer();
    this.#from.position = 0;
    const server = await this.#all(Date.now());
    tell("server restarted", server);
    drops.push(this.#drops);
    if (proxy) await Bun.sleep(SETTLE); // devices are told of each other some seconds after they are up
    const sshd = proxy ? await this.#withoutSshd() : null;
    if (sshd !== null) tell("sshd away for 10 s", sshd);
    drops.push(this.#drops);
    const [none = 0, first = 0, second = 0, third = 0] = drops;
    return {
      ...{ devices, kind, proxy, start, server, sshd, stop },
      dropped: proxy ? { start: first - none, server: second - first, sshd: third - second } : null,
      ...{ memory: (memory - before.memory) / devices, load: (load - before.load) / devices },
    };
  }

  /** Memory and processor time of the daemon when nothing happens: bytes, s per s. */
  async #rest(): Promise<{ memory: number; load: number }> {
    const { pid } = this.world.daemon;
    if (pid === undefined) throw new Error("the server is not running");
    await Bun.sleep(SETTLE); // it shall come to rest
    const start = processorTime(pid);
    await Bun.sleep(SETTLE); // for so long it is measured
    const load = (processorTime(pid) - start) / (SETTLE / 1000);
    return { memory: memoryOf(pid, "VmRSS"), load };
  }

  /** When half, 95 % and all are up, from a moment on. @throws Error when not all come up. */
  async #all(from: number): Promise<Back> {
    const { devices } = this.options;
    const { daemon } = this.world;
    const up = await eventually(
      `${devices} devices are up`,
      () => upSince(daemon.outputFrom(this.#from.position)),
      { fits: ({ size }) => size === devices, within: PATIENCE, every: 100 },
    );
    return backOf(up, devices, from);
  }

  /** Connections that the proxy's sshd has dropped until now. */
  get #drops(): number {
    return this.#sshds.reduce(
      (sum, { output }) => sum + (output.match(/^drop connection /gm)?.length ?? 0),
      0,
    );
  }

  readonly #sshds: LabProcess[] = [];

  async #startSshd(): Promise<void> {
    const [proxy] = this.world.proxies;
    if (proxy === undefined) throw new Error("there is no proxy");
    if (this.#sshds.length === 0) {
      const file = Bun.file(proxy.host.path("/etc/ssh/sshd_config"));
      proxy.host.writeFile("/etc/ssh/sshd_config", SSHD_LINES + (await file.text()));
      await proxy.sshd.stop();
    }
    const sshd = proxy.host.spawn(SSHD_COMMAND);
    this.#sshds.push(sshd);
    await sshd.waitFor(/Server listening on 0\.0\.0\.0 port/);
  }

  /** The proxy's sshd goes with all its sessions, and is back after a while. */
  async #withoutSshd(): Promise<Back> {
    await this.#sshds.at(-1)?.stop("SIGKILL", { tree: true });
    this.#from.position = this.world.daemon.position;
    await Bun.sleep(AWAY); // for so long it is away
    const from = Date.now();
    await this.#startSshd();
    return await this.#all(from);
  }

  /** Start all devices; when that was. */
  #begin(): Promise<number> {
    return this.options.kind === "light" ? this.#beginLight() : this.#beginReal();
  }

  async #beginLight(): Promise<number> {
    const { world } = this;
    const keys = Array.from({ length: this.options.devices }, () => encodePrivateKey(generateKey("")));
    const input = keys.map((key) => `${JSON.stringify(key)}\n`).join("");
    await world.server.must([...program("../tunnel/crowd.ts"), "register", REGISTRY], { input });
    const boards = await world.device("boards");
    const server = { host: "walt.lab.example", port: 2222 };
    const proxies = world.proxies.map(({ name }) => ({ host: name, port: 22 }));
    const hosts = await this.#copies(boards.host, Math.ceil(keys.length / AN_ADDRESS), "boards");
    const crowds = hosts.map((host, index) => {
      const config: CrowdConfig = {
        keys: keys.filter((_, i) => i % hosts.length === index),
        perSecond: START / hosts.length,
        ...{ server, entrypoint: proxies.length === 0 ? { direct: server } : { proxies } },
        ...{ proxyKey: "/etc/walt/enrolment_key", knownHosts: "/etc/walt/known_hosts" },
      };
      const crowd = host.spawn(program("./crowd.ts"));
      crowd.write(JSON.stringify(config));
      return crowd;
    });
    const from = Date.now();
    for (const crowd of crowds) await crowd.closeInput();
    return from;
  }

  /** So many hosts with the configuration of the first, which is one of them. */
  async #copies(first: Host, count: number, name: string): Promise<Host[]> {
    const hosts = [first];
    const files = ["vpn.toml", "known_hosts", "enrolment_key", "enrolment_token"].map(
      (file) => `/etc/walt/${file}`,
    );
    const numbers = Array.from({ length: count - 1 }, (_, i) => i + 2).values();
    const make = async (): Promise<void> => {
      for (const number of numbers) {
        const host = await this.world.lab.host(`${name}${number}`, { networks: [INTERNET] });
        for (const path of ["/etc/hosts", ...files]) {
          const file = Bun.file(first.path(path));
          if (await file.exists()) host.writeFile(path, await file.text(), 0o600);
        }
        hosts.push(host);
      }
    };
    await Promise.all(Array.from({ length: TOGETHER }, make));
    return hosts;
  }

  async #beginReal(): Promise<number> {
    const { world, options } = this;
    const uses = String(options.devices);
    const token = (await world.must(world.server, "vpn", "token", "add", "--uses", uses)).trim();
    const first = await world.device("device1", { setup: ["--token", token] });
    const hosts = await this.#copies(first.host, options.devices, "device");
    const from = Date.now();
    for (const host of hosts) host.spawn([world.binary, "device", "run"]);
    return from;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.world.lab.hosts)
      if (/^(device|boards)/.test(host.name)) await this.world.lab.remove(host);
    await this.world[Symbol.asyncDispose]();
  }
}
