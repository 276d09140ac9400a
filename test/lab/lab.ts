/**
 * The laboratory: hosts in namespaces and networks between them, for integration tests, the demo and benches.
 * One more namespace, the switch, has a bridge per network; hosts are plugged into it by veth pairs. Nothing of it touches
 * the machine's own network, and nothing has a name there, so that any number of laboratories may run at once.
 */

import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/linux/run.ts";
import { Host, type Port, PRIVATE_FOLDERS } from "./host.ts";
import { Holder } from "./namespace.ts";

/** The network that every host joins unless told otherwise. */
export const INTERNET = "internet";

/** Last of all, even after `kill -9` of the test, the switch removes the laboratory's folder. */
const REMOVE_FOLDER = 'cd /; rm -rf "$1"';

/** Options of a host. */
export interface HostOptions {
  /** Networks to join, made when they are new; interfaces `eth0`, `eth1`, … in this order. Only `internet` unless told. */
  networks?: readonly string[];
}

export class Lab implements AsyncDisposable {
  readonly #switch: Holder;
  readonly #networks = new Map<string, { number: number; hosts: number }>();
  readonly #hosts = new Map<string, Host>();

  private constructor(
    /** Its own temporary folder, removed with it. Hosts see it, except each other's folders in `hosts/`. */
    readonly dir: string,
    holder: Holder,
  ) {
    this.#switch = holder;
  }

  /** A laboratory without hosts. */
  static async create(): Promise<Lab> {
    // A folder that hosts have a private version of cannot be shared with them.
    const hidden = [...PRIVATE_FOLDERS, "/run"].some((folder) => `${tmpdir()}/`.startsWith(`${folder}/`));
    const dir = mkdtempSync(join(hidden ? "/tmp" : tmpdir(), "walt-lab-"));
    mkdirSync(join(dir, "hosts"), { mode: 0o755 });
    try {
      return new Lab(dir, await Holder.start("ip link set lo up", [dir], REMOVE_FOLDER));
    } catch (error) {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** Lines for `ip -batch` in the switch. */
  async #ip(...lines: string[]): Promise<void> {
    await run([...this.#switch.enterNetwork(), "ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** Make a network: an L2 segment that nothing routes to or from. Nothing happens when there is one of this name. */
  async network(name: string): Promise<void> {
    if (this.#networks.has(name)) return;
    const number = this.#networks.size;
    this.#networks.set(name, { number, hosts: 0 });
    await this.#ip(`link add br${number} type bridge stp_state 0`, `link set br${number} up`);
  }

  /** Make a host, named for what it is (`server`, `proxy`, `device2`): letters, digits and `-`. */
  async host(name: string, options: HostOptions = {}): Promise<Host> {
    if (!/^[a-z][a-z0-9-]{0,30}$/.test(name)) throw new Error(`not a name for a host: ${name}`);
    if (this.#hosts.has(name)) throw new Error(`there is a host ${name} already`);
    const host = await Host.start(name, join(this.dir, "hosts"));
    this.#hosts.set(name, host);
    for (const network of options.networks ?? [INTERNET]) await this.join(host, network);
    return host;
  }

  /** Plug a host into a network, which is made when it is new: 10.99.<network>.<host>/24 and fd99:<network>::<host>/64. */
  async join(host: Host, name: string): Promise<Port> {
    await this.network(name);
    const network = this.#networks.get(name);
    if (network === undefined) throw new Error(`no network ${name}`);
    network.hosts += 1;
    const device = `eth${host.ports.length}`;
    const wire = `p${network.number}-${network.hosts}`;
    const ipv4 = `10.99.${network.number}.${network.hosts}`;
    const ipv6 = `fd99:${network.number}::${network.hosts.toString(16)}`;
    await this.#ip(
      `link add ${wire} type veth peer name ${device} netns ${host.pid}`,
      `link set ${wire} master br${network.number} up`,
    );
    // There is no such folder on a kernel without IPv6.
    const six = existsSync("/proc/sys/net/ipv6");
    await host.ip(
      `link set ${device} up`,
      `address add ${ipv4}/24 dev ${device}`,
      ...(six ? [`address add ${ipv6}/64 dev ${device} nodad`] : []),
    );
    const port: Port = {
      network: name,
      device,
      ipv4,
      ipv6: six ? ipv6 : undefined,
      wire: (state) => this.#ip(`link set ${wire} ${state}`),
    };
    host.plugged(port);
    return port;
  }

  /** All hosts that there are. */
  get hosts(): readonly Host[] {
    return [...this.#hosts.values()];
  }

  /** End a host with all that runs there; its name is free again. */
  async remove(host: Host): Promise<void> {
    this.#hosts.delete(host.name);
    await host.stop();
  }

  /** End every host with all that runs there, and remove the folder. */
  async stop(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stop()));
    this.#hosts.clear();
    await this.#switch.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
