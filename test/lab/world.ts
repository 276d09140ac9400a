/**
 * A laboratory with WalT in it: a server, a chain of proxies with real sshd, and devices, all running the
 * compiled binary. Devices are on `internet`, the server is not; each hop is a network of its own.
 */

import { mkdirSync, rmSync } from "node:fs";
import { ApiClient } from "../../src/api/client.ts";
import type { DeviceStatus } from "../../src/api/device-status.ts";
import type { MonitorEvent } from "../../src/api/events.ts";
import type { DeviceInfo, NodeInfo } from "../../src/api/messages.ts";
import { DEVICE, SERVER } from "../../src/api/routes.ts";
import { READING_TIME } from "../../src/commands/vpn/_monitor-screen.ts";
import { messageOf } from "../../src/errors.ts";
import type { RunResult } from "../../src/linux/run.ts";
import { waltBinary } from "./binary.ts";
import { eventually } from "./eventually.ts";
import type { Host } from "./host.ts";
import { INTERNET, Lab } from "./lab.ts";
import { LAB, type Needs } from "./need.ts";
import type { LabProcess } from "./process.ts";
import { type Sshd, startSshd } from "./sshd.ts";

/** What every suite with a `World` needs. */
export const INTEGRATION: readonly Needs[] = [LAB, { programs: ["sshd", "ssh", "dnsmasq"] }];

/** The server's address on a managed walt-net. */
export const WALT_NET = "192.168.192.1";
const SERVER_NAME = "walt.lab.example";

export interface WorldOptions {
  /** Proxies between devices and server; 1 unless told. With 0 the server itself is on `internet`. */
  proxies?: number;
  /** Lines of the server's [server] table. */
  server?: string;
  /** Another version of the binary. */
  binary?: string;
}

export interface Proxy {
  host: Host;
  /** As devices and the proxy before name it. */
  name: string;
  sshd: Sshd;
}

export class World implements AsyncDisposable {
  readonly proxies: Proxy[] = [];
  readonly devices: WorldDevice[] = [];
  daemon: LabProcess;

  private constructor(
    readonly lab: Lab,
    readonly binary: string,
    /** The binary of this version. */
    readonly today: string,
    readonly server: Host,
    daemon: LabProcess,
  ) {
    this.daemon = daemon;
  }

  /** The hosts of a world without devices. */
  #first: readonly Host[] = [];

  /** Server running, proxies set up by the real script; no device yet. */
  static async create(options: WorldOptions = {}): Promise<World> {
    const count = options.proxies ?? 1;
    const today = await waltBinary();
    const binary = options.binary ?? today;
    const lab = await Lab.create();
    try {
      const server = await lab.host("server", { networks: [count === 0 ? INTERNET : `lan${count}`] });
      configureServer(server, options.server);
      const world = new World(lab, binary, today, server, await startServer(server, binary));
      for (let i = 1; i <= count; i++) {
        await world.#addProxy(`gate${i}`, [i === 1 ? INTERNET : `lan${i - 1}`, `lan${i}`]);
      }
      // From the last proxy to the first: each needs to know the next.
      for (const [i, proxy] of [...world.proxies.entries()].toReversed()) {
        const next = world.proxies[i + 1];
        const address = next === undefined ? world.serverAddress : next.host.address(`lan${i + 1}`);
        const name = next === undefined ? SERVER_NAME : next.name;
        proxy.host.hosts({ [name]: address });
        await world.setupProxy(proxy.host, next === undefined ? `${SERVER_NAME}:2222` : `${next.name}:22`);
      }
      world.#first = lab.hosts;
      return world;
    } catch (error) {
      await lab.stop();
      throw error;
    }
  }

  /**
   * As it was when it was made, but for keys, known to devices of earlier times, which are gone: the registry is empty, and nothing runs
   * but the server, with these lines in its [server] table, and the proxies' sshd. What a test changed in a proxy's set-up stays.
   */
  async restore(server = ""): Promise<void> {
    const more = this.lab.hosts.filter((host) => !this.#first.includes(host));
    await Promise.all(more.map((host) => this.lab.remove(host)));
    this.devices.length = 0;
    this.proxies.splice(
      0,
      this.proxies.length,
      ...this.proxies.filter(({ host }) => this.#first.includes(host)),
    );
    for (const proxy of this.proxies) {
      if (proxy.sshd.process.ended === undefined || proxy.host === this.server) continue;
      await proxy.host.endAll();
      proxy.sshd = await startSshd(proxy.host);
    }
    await this.server.endAll();
    // A bridge that a test made is not the server's to take away, and of one that was killed it is left as well.
    const clear = `find . -mindepth 1 -maxdepth 1 ! -name tmp -exec rm -rf {} +
rm -f /var/lib/walt*/registry.sqlite* /var/lib/walt*/keys/serial
ip link delete walt-net 2>/dev/null || :`;
    await this.server.must(["sh", "-c", clear]);
    configureServer(this.server, server);
    await this.startServer();
  }

  get serverAddress(): string {
    return this.server.ports[0]?.ipv4 ?? "";
  }

  async #addProxy(name: string, networks: string[]): Promise<Proxy> {
    const host = await this.lab.host(name, { networks });
    const sshd = await startSshd(host);
    const proxy = { host, name: `${name}.example.org`, sshd };
    this.proxies.push(proxy);
    return proxy;
  }

  /** One more proxy beside the first, for devices that are told of it, in a world that began with one. */
  async addEntrypoint(name: string): Promise<Proxy> {
    const proxy = await this.#addProxy(name, [INTERNET, "lan1"]);
    proxy.host.hosts({ [SERVER_NAME]: this.serverAddress });
    await this.setupProxy(proxy.host, `${SERVER_NAME}:2222`);
    return proxy;
  }

  /** `walt vpn setup-proxy` on the server, its script run on the proxy. */
  async setupProxy(proxy: Host, next: string, args: string[] = []): Promise<string> {
    const file = `${this.server.dir}/proxy-setup-${proxy.name}.sh`;
    rmSync(this.server.path(file), { force: true });
    await this.must(this.server, "vpn", "setup-proxy", "--next", next, "-o", file);
    proxy.writeFile("/root/proxy-setup.sh", await Bun.file(this.server.path(file)).text(), 0o755);
    return await proxy.must(["sh", "/root/proxy-setup.sh", ...args]);
  }

  /** A walt command, whatever its exit status. */
  walt(host: Host, ...args: string[]): Promise<RunResult> {
    return host.run([this.binary, ...args]);
  }

  /** A walt command that must succeed; its standard output. */
  must(host: Host, ...args: string[]): Promise<string> {
    return host.must([this.binary, ...args]);
  }

  /** The server's API, as its commands use it, without the start of a command. */
  get api(): ApiClient {
    return new ApiClient({ socket: this.server.path("/run/walt-vpn/server.sock"), start: "walt server run" });
  }

  nodes(): Promise<NodeInfo[]> {
    return this.api.call(SERVER.nodes, {});
  }

  /** All registered devices, those that were revoked as well. */
  list(): Promise<DeviceInfo[]> {
    return this.api.call(SERVER.devices, {});
  }

  async stopServer(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    return await this.daemon.stop(signal);
  }

  async startServer(): Promise<void> {
    this.daemon = await startServer(this.server, this.binary);
  }

  /** A monitor on the server, watching already. */
  async monitor(...args: string[]): Promise<Monitor> {
    const process = this.server.spawn([this.binary, "vpn", "monitor", ...args]);
    await process.waitFor(args.includes("--json") ? /"watching"/ : /Waiting for devices/);
    return new Monitor(process);
  }

  /** The entrypoint that devices of this world use. */
  get entrypoint(): string {
    if (this.proxies.length === 0) return `ssh://${SERVER_NAME}:2222`;
    return this.proxies.map((p) => p.name).join(",");
  }

  /**
   * A device host with the folder that `walt vpn setup-node` wrote; not started.
   * @param toml more lines of vpn.toml. Unless it says otherwise the device has no virtual machine.
   */
  async device(
    name: string,
    options: {
      entrypoints?: readonly string[];
      toml?: string;
      network?: string;
      next?: string;
      /** More words for `walt vpn setup-node`. */
      setup?: readonly string[];
    } = {},
  ): Promise<WorldDevice> {
    const host = await this.lab.host(name, { networks: [options.network ?? INTERNET] });
    const names = this.proxies.map((p) => [p.name, p.host.ports[0]?.ipv4 ?? ""] as const);
    host.hosts(Object.fromEntries([...names, [SERVER_NAME, this.serverAddress]]));
    this.server.hosts(
      Object.fromEntries([
        ...this.proxies.map((p) => [p.name, p.host.ports.at(-1)?.ipv4 ?? ""] as const),
        [SERVER_NAME, "127.0.0.1"],
      ]),
    );
    const folder = `${this.server.dir}/device-${name}`;
    const known = `${this.server.dir}/known-${name}`;
    // The server does not reach every proxy: keys are given as an operator would who collected them there.
    this.server.writeFile(
      known,
      this.proxies.flatMap((p) => p.sshd.hostKeys.map((key) => `${p.name} ${key}\n`)).join(""),
    );
    await this.must(
      this.server,
      ...[
        "vpn",
        "setup-node",
        ...["--board", "generic"],
        ...(options.setup ?? []),
        ...(options.entrypoints ?? [this.entrypoint]).flatMap((one) => ["--entrypoint", one]),
        "--known-hosts",
        known,
        "-o",
        folder,
      ],
      ...(options.next === undefined ? [] : ["--next", options.next]),
    );
    mkdirSync(host.path("/etc/walt"), { recursive: true });
    for (const [file, mode] of [
      ["vpn.toml", 0o644],
      ["known_hosts", 0o644],
      ["enrolment_key", 0o600],
      ["enrolment_token", 0o600],
    ] as const) {
      const written = Bun.file(this.server.path(`${folder}/${file}`));
      if (!(await written.exists())) continue;
      const text = await written.text();
      const more = file === "vpn.toml" ? (options.toml ?? "[device.vm]\nstart = false\n") : "";
      host.writeFile(`/etc/walt/${file}`, text + more, mode);
    }
    const device = new WorldDevice(this, host);
    this.devices.push(device);
    return device;
  }

  /** Everything logged so far, for a test that failed. */
  logs(): string {
    const parts = [
      ["server", this.daemon.output] as const,
      ...this.proxies.map((p) => [p.host.name, p.sshd.process.output] as const),
      ...this.devices.map((d) => [d.host.name, d.process?.output ?? ""] as const),
    ];
    return parts.map(([name, text]) => `--- ${name}\n${text}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (process.env["WALT_TEST_LOGS"]) console.error(this.logs());
    await this.lab.stop();
  }
}

/** What the server's systemd unit puts into its environment. */
export async function serviceEnvironment(): Promise<Record<string, string>> {
  const unit = await Bun.file(new URL("../../src/server/install/walt-vpn.service", import.meta.url)).text();
  return Object.fromEntries(
    [...unit.matchAll(/^Environment=(\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
}

/** Write the server's configuration, with more lines in its [server] table. */
function configureServer(server: Host, more = ""): void {
  server.writeFile(
    "/etc/walt/vpn.toml",
    `role = "server"\n[server]\naddress = "${SERVER_NAME}:2222"\nretry_after = "1s"\n${more}\n`,
  );
}

async function startServer(host: Host, binary: string): Promise<LabProcess> {
  const daemon = host.spawn(serverCommand(binary), { env: await serviceEnvironment() });
  // All namespaces share the kernel's lock for interfaces: where a test beside this one ends a thousand TAPs, the
  // first TAP of the server waits for that.
  await daemon.waitFor(/event=server-ready/, { timeout: 180_000 });
  return daemon;
}

/** The command line of the server. */
export function serverCommand(binary: string): string[] {
  return [binary, "server", "run"];
}

/** A running `walt vpn monitor`. */
export class Monitor {
  constructor(readonly process: LabProcess) {}

  /** Wait until one device, and no other, is asked about: all that is shown of it, and its short code. */
  async question(
    options: { timeout?: number; after?: number } = {},
  ): Promise<{ text: string; code: string }> {
    const pattern = /short code +(\S+)[\s\S]*?\nAccept\? [^\n]*: /;
    const [text, code = ""] = await this.process.waitFor(pattern, options);
    return { text, code };
  }

  /** Type a line once what is on the screen now has been there for long enough to be answered. */
  async type(line: string): Promise<void> {
    await Bun.sleep(READING_TIME + 50);
    this.process.write(`${line}\n`);
  }

  /** Wait for the question, and answer it. */
  async answer(
    what: "accept" | "deny",
    options: { timeout?: number; after?: number } = {},
  ): Promise<{ text: string; code: string }> {
    const asked = await this.question(options);
    await this.type(`${what} ${asked.code}`);
    return asked;
  }

  /** Events of `--json` so far. */
  events(): MonitorEvent[] {
    return this.process.stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as MonitorEvent);
  }

  async stop(signal: NodeJS.Signals = "SIGINT"): Promise<number> {
    return await this.process.stop(signal);
  }
}

/** A device of the world. */
export class WorldDevice {
  process: LabProcess | undefined;
  /** Added to the environment that it is started in. */
  env: Record<string, string> = {};
  /** The binary that it runs. */
  binary: string;

  constructor(
    readonly world: World,
    readonly host: Host,
  ) {
    this.binary = world.binary;
  }

  start(): LabProcess {
    this.process = this.host.spawn([this.binary, "device", "run"], { env: this.env });
    return this.process;
  }

  /** Start it, accept it, and wait until its tunnel is up; the node's name. No other device may ask meanwhile. */
  async enrol(): Promise<string> {
    const { api, daemon } = this.world;
    const watching = new AbortController();
    const from = daemon.position;
    const letIn = async (): Promise<string> => {
      let mine: string | null = null;
      for await (const event of api.stream(SERVER.monitor, { name: "test" }, watching.signal)) {
        if (event.type === "watching") this.start();
        if (event.type === "request") {
          const { id, fingerprint } = event.request;
          mine = (await api.call(SERVER.answer, { id, fingerprint, accept: true, by: "test" })).node;
        }
        if (event.type === "node" && event.node === mine && event.state === "up") return mine;
      }
      throw new Error("the server ended");
    };
    try {
      const node = await eventually(`${this.host.name} is let in`, letIn());
      await this.isUp(); // it hears of its tunnel later than the server
      return node;
    } catch (error) {
      throw new Error(`${messageOf(error)}; all logs:\n${this.world.logs().slice(-8000)}`);
    } finally {
      watching.abort();
      if (daemon.ended === undefined) await daemon.waitFor(/event=monitor-left/, { after: from });
    }
  }

  status(): Promise<DeviceStatus> {
    const socket = this.host.path("/run/walt-vpn/device.sock");
    return new ApiClient({ socket, start: "walt device run" }).call(DEVICE.status, {});
  }

  /** Wait until it says that its tunnel is up; what it says of itself then. */
  isUp(): Promise<DeviceStatus> {
    return eventually(`${this.host.name} has its tunnel`, () => this.status(), {
      fits: ({ tunnel }) => tunnel === "up",
      every: 20,
    });
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    return (await this.process?.stop(signal, { grace: 15_000 })) ?? 0;
  }

  /**
   * A machine on the device's bridge with the node's MAC address: what the virtual machine would be.
   * @returns a host that is on walt-net with this address.
   */
  async plugNode(address: string, mac: string): Promise<Host> {
    const node = await this.world.lab.host(`${this.host.name}-node`, { networks: [] });
    await this.host.ip(
      `link add to-node type veth peer name eth0 netns ${node.pid}`,
      "link set to-node master walt-br up",
    );
    await node.ip(`link set eth0 address ${mac} up`, `address add ${address}/22 dev eth0`);
    return node;
  }
}

/** Ping once a moment until an answer comes, for at most `seconds`. */
export async function pingable(from: Host, address: string, seconds = 10): Promise<boolean> {
  const { status } = await from.run(["ping", "-c", "1", "-i", "0.2", "-w", String(seconds), address], {
    timeout: (seconds + 5) * 1000,
  });
  return status === 0;
}
