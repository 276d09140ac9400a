/**
 * Finds the network interface by which the device reaches the Internet: a wired one that has an IP address.
 * It does not matter whether a DHCP client or an administrator set the address.
 */

import { existsSync, readFileSync } from "node:fs";
import type { Child, Children } from "../../linux/child.ts";
import { type IpOptions, ipJson } from "../../linux/ip.ts";
import { paced } from "../../linux/output.ts";
import { sleep } from "../../linux/sleep.ts";
import { Fields, MAC } from "../../parse.ts";

/** A network interface of the board. */
export interface Interface {
  /** Its name, such as `eth0`. */
  name: string;
  /** Its MAC address, by which the server knows the board. */
  boardMac: string;
  /** Its first global IP address; "" while it has none. */
  address: string;
}

/** An interface, and whether it can be used now. */
export interface Link extends Interface {
  /** Whether it is up and has a link (a cable is plugged in). */
  up: boolean;
}

/** Names of the device's own interfaces: the bridge and the TAPs, which carry the node's traffic. */
const OURS = /^walt-/;
/**
 * Milliseconds after which the interfaces are looked at again even if no change was reported. The first look
 * comes soon, as `ip monitor` takes a moment to start.
 */
const FIRST_LOOK = 300;
const NEXT_LOOK = 5000;
/** Milliseconds between two looks at least, however often changes are reported. */
const BETWEEN_LOOKS = 250;
/** ms between two looks at default routes and resolvers. */
const SURROUNDINGS_LOOK = 500;

/**
 * The Ethernet interfaces in the output of `ip -j address`, except the device's own.
 * @throws WaltError when the output has another shape.
 */
export function parseInterfaces(value: unknown): Link[] {
  const links: Link[] = [];
  for (const [index, entry] of new Fields({ links: value }, "ip -j address").array("links").entries()) {
    const fields = new Fields(entry, `ip -j address: entry ${index}`);
    // ip prints an empty object for an interface that a filter leaves out.
    if (!fields.has("ifname") || fields.optionalText("link_type") !== "ether") continue;
    const name = fields.text("ifname", 15);
    const boardMac = fields.text("address", 60);
    if (OURS.test(name) || !MAC.test(boardMac)) continue;
    const flags = fields.array("flags");
    const addresses = fields.has("addr_info") ? fields.array("addr_info") : [];
    const global = addresses
      .map((address) => new Fields(address, `ip -j address: ${name}`))
      .find((a) => a.optionalText("scope") === "global" && !a.has("tentative") && !a.has("dadfailed"));
    const up = flags.includes("UP") && flags.includes("LOWER_UP");
    links.push({ name, boardMac, address: global?.optionalText("local") ?? "", up });
  }
  return links;
}

/**
 * The names of interfaces with a default route in the output of `ip -j route show default`.
 * @throws WaltError when the output has another shape.
 */
export function parseDefaultRoutes(value: unknown): string[] {
  return new Fields({ routes: value }, "ip -j route")
    .array("routes")
    .map((route) => new Fields(route, "ip -j route").optionalText("dev", 15) ?? "");
}

/**
 * Choose the interface to use: the one that the configuration names, otherwise the only wired one with an
 * address, or among several of those the one with a default route.
 * @param routes names of interfaces with a default route.
 * @param wanted the configuration's `device.interface`; "" when it names none.
 * @returns the interface, or the reason in words why there is none.
 */
export function chooseInterface(
  links: readonly Link[],
  routes: readonly string[],
  wanted: string,
  isWireless: (name: string) => boolean,
): Interface | string {
  if (wanted !== "") {
    const found = links.find((link) => link.name === wanted);
    if (found === undefined) return `there is no network card ${wanted}, which device.interface names`;
    if (!found.up) return `the network card ${wanted} has no link: is the cable plugged in?`;
    return found.address === "" ? `the network card ${wanted} has no address yet` : found;
  }
  const wired = links.filter((link) => !isWireless(link.name));
  const usable = wired.filter((link) => link.up && link.address !== "");
  const [only, ...others] = usable;
  if (only === undefined) {
    if (wired.length === 0) return "there is no wired network card; name another one with device.interface";
    return wired.some((link) => link.up)
      ? "no wired network card has an address yet"
      : "no network cable is plugged in";
  }
  if (others.length === 0) return only;
  const routed = usable.find((link) => routes.includes(link.name));
  const names = usable.map((link) => link.name).join(", ");
  return routed ?? `${names} have addresses, but none has a default route; choose one with device.interface`;
}

function isWireless(name: string): boolean {
  return existsSync(`/sys/class/net/${name}/wireless`) || existsSync(`/sys/class/net/${name}/phy80211`);
}

/**
 * The interface to use now, or the reason in words why there is none.
 * @param wanted the configuration's `device.interface`; "" when it names none.
 * @throws WaltError when ip(8) fails.
 */
export async function findInterface(wanted: string, options: IpOptions = {}): Promise<Interface | string> {
  const links = parseInterfaces(await ipJson(["address"], options));
  const candidates = links.filter((link) => link.up && link.address !== "");
  if (wanted !== "" || candidates.length < 2) return chooseInterface(links, [], wanted, isWireless);
  const show = ["route", "show", "default"];
  const routes = await Promise.all([ipJson(show, options), ipJson(["-6", ...show], options)]);
  return chooseInterface(links, routes.flatMap(parseDefaultRoutes), wanted, isWireless);
}

/** Default routes and resolvers, as the kernel and resolv.conf(5) have them, without the device's own interfaces. */
function surroundingsOf(): string {
  const four = linesOf("/proc/net/route").filter((line) => /^\S+\s+00000000\s/.test(line));
  const six = linesOf("/proc/net/ipv6_route").filter((line) => /^0{32} 00 /.test(line));
  // Columns before the counters of use: interface, destination and gateway; destination, source and gateway.
  const routes = [...four.map((line) => line.split("\t", 3)), ...six.map((line) => line.split(" ", 5))];
  return [...routes.map((columns) => columns.join(" ")), ...linesOf("/etc/resolv.conf")].join("\n");
}

function linesOf(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return []; // a kernel without IPv6, or a machine without resolvers
  }
}

/** Waits for changes of the machine's network. It uses `ip monitor`, which is started at the first wait. */
export class NetworkWatch {
  #monitor: Child | undefined;
  /** When the interfaces may be looked at again, ms of `performance.now()`. */
  #nextLook = 0;
  readonly #waiting = new Set<() => void>();

  constructor(
    readonly children: Children,
    /** Tells default routes and resolvers as text, of which only changes matter; tests pass another one. */
    readonly surroundings: () => string = surroundingsOf,
  ) {}

  /**
   * Wait until there is an interface to use.
   * @param wanted the configuration's `device.interface`.
   * @param tell called with the reason why there is none, each time that the reason changes.
   * @throws the reason of `signal` when that is aborted, and WaltError when ip(8) fails.
   */
  async ready(wanted: string, tell: (why: string) => void, signal: AbortSignal): Promise<Interface> {
    let told: string | undefined;
    for (let look = 0; ; look++) {
      signal.throwIfAborted();
      const found = await this.#look(wanted, signal);
      if (typeof found !== "string") return found;
      if (found !== told) tell(found);
      told = found;
      await this.changedOr(look === 0 ? FIRST_LOOK : NEXT_LOOK, signal);
    }
  }

  /**
   * Wait for `ms` milliseconds, but end earlier when a new attempt may succeed: when the interface to use is
   * another one or has another address, when it was lost and is back, when default routes or resolvers are
   * others, or when `signal` is aborted. Other changes of the network, such as those of the device's own
   * bridge, do not end the wait. It never rejects: what fails here, fails again in the next attempt, which
   * tells the reason.
   * @param used the interface that was used until now.
   * @param wanted the configuration's `device.interface`.
   * @returns whether it ended because of a change.
   */
  async quiet(
    ms: number,
    used: Interface | undefined,
    wanted: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const until = performance.now() + ms;
    const before = this.surroundings();
    for (let lost = false; ; ) {
      const left = until - performance.now();
      if (left <= 0 || signal.aborted) return false;
      // `ip monitor` does not tell of resolvers.
      const changed = await this.changedOr(Math.min(left, SURROUNDINGS_LOOK), signal);
      if (this.surroundings() !== before) return true;
      if (!changed) continue;
      const found = await this.#look(wanted, signal).catch(() => undefined);
      if (found === undefined) continue;
      if (typeof found === "string") lost = true;
      else if (lost || found.name !== used?.name || found.address !== used.address) return true;
    }
  }

  /**
   * Wait for a change of links, addresses or routes. Without `ip monitor` there is none.
   * @returns true after a change; false after `ms` milliseconds, or when `signal` is aborted.
   */
  async changedOr(ms: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    this.#monitor ??= this.#start();
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const changed = (): void => resolve(true);
    const over = (): void => resolve(false);
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", over);
    this.#waiting.add(changed);
    try {
      return await promise;
    } finally {
      this.#waiting.delete(changed);
      signal.removeEventListener("abort", over);
      clearTimeout(timer);
    }
  }

  async #look(wanted: string, signal: AbortSignal): Promise<Interface | string> {
    await sleep(Math.max(0, this.#nextLook - performance.now()), signal);
    this.#nextLook = performance.now() + BETWEEN_LOOKS;
    return await findInterface(wanted, { signal });
  }

  #start(): Child | undefined {
    try {
      const monitor = this.children.spawn(["ip", "monitor", "link", "address", "route"], "pipe");
      void this.#read(monitor);
      return monitor;
    } catch {
      return undefined; // the next wait tries again
    }
  }

  async #read(monitor: Child): Promise<void> {
    try {
      for await (const _ of paced(monitor.output)) for (const wake of this.#waiting) wake();
    } catch {
      // It has ended.
    }
    void monitor.stop(); // one that has only closed its output is of no use any more
    this.#monitor = undefined; // the next wait starts another one
  }
}
