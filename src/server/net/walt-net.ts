/** walt-net on the server: the bridge, its ports, and on a managed one DHCP and boot files. */

import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { AddressRange } from "../../address-range.ts";
import type { Config } from "../../config/schema.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { kept } from "../../kept.ts";
import { IP_LONGEST, type IpOptions, ipBatch, ipJson } from "../../linux/ip.ts";
import { type RunResult, run, runAny } from "../../linux/run.ts";
import type { Log } from "../../log.ts";
import { Fields } from "../../parse.ts";
import type { GuardRules } from "../../tunnel/receive/guard.ts";
import { type BootSeen, BootService } from "./boot-files.ts";
import { Dnsmasq, knownLeases, leasesFile } from "./dnsmasq.ts";
import { portError, refuseCollision } from "./surroundings.ts";
import { Together } from "./together.ts";

/**
 * The alias of bridges that this program makes, by which it recognises one that an earlier run left behind.
 */
const ALIAS = "made by walt server";

export interface WaltNet {
  /** The largest MTU on walt-net, bytes. */
  readonly mtu: number;
  /**
   * Put a node's interface into the bridge, with the largest MTU, and set it up. The bridge sends all unicast
   * frames for the node to this port, and no unicast frames for other machines.
   */
  addPort(name: string, nodeMac: string): Promise<void>;
  /**
   * Lower the MTU of a port, so that the bridge drops larger frames. Does nothing on a bridge that is not
   * managed: its MTU could follow.
   */
  lowerPort(name: string, mtu: number): Promise<void>;
  /**
   * Remove the interfaces of all nodes at once. Of those that are removed one by one the kernel waits some
   * 20 ms for the end of each.
   */
  removePorts(): Promise<void>;
  /** The known IPv4 addresses, by MAC address. */
  addresses(macs: readonly string[]): Promise<Map<string, string>>;
  /** The last request for a boot script from an IPv4 address; undefined if another program serves boot files. */
  bootSeen(address: string): BootSeen | undefined;
  /** Set the names and addresses that DHCP assigns to nodes. */
  setNodes(nodes: readonly NodeLease[]): void;
  /** What a node may send. */
  rulesFor(node: NodeLease): GuardRules;
  stop(): Promise<void>;
}

/** What DHCP assigns to a node: its name, and its address unless that is null. */
export interface NodeLease {
  readonly mac: string;
  readonly node: string;
  readonly address: string | null;
}

/**
 * The addresses that a managed walt-net has for nodes, and the leases by MAC address; undefined if another
 * program assigns addresses.
 */
export function nodeAddresses(
  config: Config,
): [range: AddressRange, leases: ReadonlyMap<string, string>] | undefined {
  const { managed, address } = config["server.network"];
  if (!managed) return undefined;
  return [AddressRange.beside(address), knownLeases(config.server.state)];
}

function hostsText(nodes: readonly NodeLease[]): string {
  return nodes
    .map(({ mac, node, address }) => `${[mac, ...(address === null ? [] : [address]), node].join(",")}\n`)
    .join("");
}

/**
 * @param signal gives it up.
 * @throws WaltError when the bridge cannot be made or belongs to another program, or a service cannot be
 *   started.
 */
export async function openWaltNet(
  config: Config,
  nodes: readonly NodeLease[],
  log: Log,
  signal?: AbortSignal,
): Promise<WaltNet> {
  const { bridge, managed } = config["server.network"];
  const link = await bridgeInfo(bridge, { ...(signal === undefined ? {} : { signal }) });
  if (!managed) {
    if (link === undefined) {
      throw new WaltError(`the bridge ${bridge} does not exist`, {
        hint: "With server.network.managed = false another program must make it. Start that first, or set managed = true.",
      });
    }
    log.info("using an existing bridge", { event: "bridge-used", bridge });
    return plainNet(config["server.network"]);
  }
  if (link !== undefined && link !== ALIAS) {
    throw new WaltError(`${bridge} exists already and is not ours`, {
      hint: "Set server.network.managed = false to use it as it is, or name another server.network.bridge.",
    });
  }
  await refuseCollision(config["server.network"]);
  return await managedNet(config, link !== undefined, nodes, log, signal);
}

/** The alias of a bridge; undefined if there is no such interface. */
async function bridgeInfo(bridge: string, options: IpOptions): Promise<string | undefined> {
  if (!existsSync(`/sys/class/net/${bridge}`)) {
    // /sys may show another network namespace than this one. ip(8) does not use it.
    const { status }: RunResult = await runAny(["ip", "link", "show", "dev", bridge], {
      timeout: IP_LONGEST,
      ...options,
    });
    if (status !== 0) return undefined;
  }
  const shown = await ipJson(["-d", "link", "show", "dev", bridge], options);
  const first: unknown = Array.isArray(shown) ? shown[0] : undefined;
  const record = typeof first === "object" && first !== null ? (first as Record<string, unknown>) : {};
  const info = record["linkinfo"];
  const kind =
    typeof info === "object" && info !== null ? (info as Record<string, unknown>)["info_kind"] : undefined;
  if (kind !== "bridge") {
    throw new WaltError(`${bridge} is a network interface, but no bridge`, {
      hint: "Name another server.network.bridge.",
    });
  }
  return typeof record["ifalias"] === "string" ? record["ifalias"] : "";
}

/** A node's interface, and the MAC address of the node. */
interface Port {
  readonly name: string;
  readonly nodeMac: string;
}

function plainNet(network: Config["server.network"]): WaltNet {
  const { bridge, mtu, isolation, managed, address_guard, vlans } = network;
  const groupOfNodes = kept(() => groupOf(bridge));
  const ports = new Together<Port>(async (some) => {
    const group = await groupOfNodes();
    // A bridge forwards nothing between two isolated ports (Linux 4.18). The port is isolated before it is up.
    const isolated = isolation ? " isolated on" : "";
    const made = some.flatMap(({ name }) => [
      `link set dev ${name} mtu ${mtu} group ${group}`,
      `link set dev ${name} master ${bridge}`,
      // Unicast frames for unknown addresses are not sent to this port. Otherwise one node could flood all other
      // tunnels.
      `link set dev ${name} type bridge_slave flood off learning off guard on${isolated}`,
    ]);
    await ipBatch(made).catch(async (error: unknown) => {
      throw portError(error, bridge, await portsOf(bridge));
    });
    // The guard accepts no other source address, so the bridge has nothing to learn.
    await run(["bridge", "-batch", "-"], {
      timeout: IP_LONGEST,
      input: some.map(({ name, nodeMac }) => `fdb replace ${nodeMac} dev ${name} master static\n`).join(""),
    });
    await ipBatch(some.map(({ name }) => `link set dev ${name} up`));
  });
  return {
    mtu,
    addPort: (name, nodeMac) => ports.add({ name, nodeMac }),
    removePorts: async () => ipBatch([`link del group ${await groupOfNodes()}`]),
    lowerPort: () => Promise.resolve(),
    addresses: (macs) => neighbours(bridge, macs),
    bootSeen: () => undefined,
    setNodes: () => {},
    rulesFor: ({ mac, address }) => ({
      ...{ mac, vlans },
      ...(managed && address_guard && address !== null ? { address } : {}),
    }),
    stop: () => Promise.resolve(),
  };
}

/** Groups of interfaces (ip-link(8)) of this program begin here; the number of the bridge is added. */
const GROUPS = 0x57_00_00_00;

/** The group of a bridge's nodes: two servers on one machine have different bridges. */
async function groupOf(bridge: string): Promise<number> {
  const [link] = listOf(await ipJson(["link", "show", "dev", bridge]));
  return GROUPS + new Fields(link, "ip -j link").integer("ifindex", 1, 0xff_ff_ff);
}

/** How many ports a bridge has. */
async function portsOf(bridge: string): Promise<number> {
  return listOf(await ipJson(["link", "show", "master", bridge])).length;
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}

/** The IPv4 addresses of these MAC addresses in the kernel's neighbour table. */
async function neighbours(bridge: string, macs: readonly string[]): Promise<Map<string, string>> {
  const result = new Map<string, string>();
  const table = await ipJson(["-4", "neigh", "show", "dev", bridge]);
  for (const entry of Array.isArray(table) ? (table as unknown[]) : []) {
    const { lladdr, dst } = entry as Record<string, unknown>;
    if (typeof lladdr === "string" && typeof dst === "string" && macs.includes(lladdr))
      result.set(lladdr, dst);
  }
  return result;
}

async function managedNet(
  config: Config,
  exists: boolean,
  nodes: readonly NodeLease[],
  log: Log,
  signal: AbortSignal | undefined,
): Promise<WaltNet> {
  const { bridge, address, boot_files, boot_port, mtu } = config["server.network"];
  const ip = address.split("/")[0] ?? "";
  const runFolder = join(dirname(config.server.socket), "walt-net");
  try {
    // dnsmasq reads here as another user than ours.
    mkdirSync(runFolder, { recursive: true });
    chmodSync(runFolder, 0o755);
  } catch (error) {
    throw new WaltError(`cannot make the folder ${runFolder}: ${messageOf(error)}`, { cause: error });
  }
  // Without a fixed MAC address a bridge takes the lowest one of its ports, and neighbours would have to
  // learn it again.
  const hash = createHash("sha256").update(`${bridge} ${address}`).digest("hex");
  const mac = `02:57:54:${hash.slice(0, 2)}:${hash.slice(2, 4)}:${hash.slice(4, 6)}`;
  // One that an earlier run left behind is used again: should that run live after all, nothing is taken from it.
  if (!exists) {
    await ipBatch([`link add name ${bridge} type bridge`, `link set dev ${bridge} alias "${ALIAS}"`]);
  }
  const removeBridge = (): Promise<void> => ipBatch([`link del dev ${bridge}`]);
  let boot: BootService | undefined;
  try {
    await ipBatch([
      // Set, it stays: else a bridge takes the least of its ports' MTUs.
      `link set dev ${bridge} mtu ${mtu}`,
      `link set dev ${bridge} address ${mac} type bridge forward_delay 0 stp_state 0`,
      `addr replace ${address} dev ${bridge}`,
      `link set dev ${bridge} up`,
    ]);
    boot = await BootService.start(ip, boot_port, boot_files, log.with("boot"));
    const bootUrl = `http://${ip}:${boot_port}/boot.ipxe`;
    const dnsmasq = await Dnsmasq.start(
      { bridge, address, bootUrl, run: runFolder, leases: leasesFile(config.server.state) },
      hostsText(nodes),
      log.with("dhcp"),
      signal,
    );
    log.info("walt-net is up", { event: "walt-net-up", bridge, address, boot: bootUrl });
    const service = boot;
    return {
      ...plainNet(config["server.network"]),
      lowerPort: (name, less) => ipBatch([`link set dev ${name} mtu ${less}`]),
      addresses: async (macs) => {
        const result = await neighbours(bridge, macs);
        const leases = dnsmasq.leases();
        for (const one of macs) {
          const lease = leases.get(one);
          if (lease !== undefined) result.set(one, lease);
        }
        return result;
      },
      bootSeen: (from) => service.seen.get(from),
      setNodes: (next) => dnsmasq.setHosts(hostsText(next)),
      stop: async () => {
        await Promise.all([dnsmasq.stop(), service.stop()]);
        await removeBridge();
      },
    };
  } catch (error) {
    await boot?.stop();
    if (!exists) await removeBridge().catch(() => {}); // the first failure is the reason
    throw error;
  }
}
