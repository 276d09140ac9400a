/** Stage "network": the wired interface that has an address. Who gave it (DHCP client, administrator) is not our business. */

import { existsSync } from "node:fs";
import type { Child, Children } from "../../linux/child.ts";
import { ipJson } from "../../linux/ip.ts";
import { Fields, MAC } from "../../parse.ts";

export interface Interface {
  name: string;
  mac: string;
  address: string;
}

/** What `ip` says of an interface that matters here. */
interface Link extends Interface {
  up: boolean;
}

/** Interfaces of ours; their traffic is the node's. */
const OURS = /^walt-/;
/** Looked again after this long (ms) even when no change was told: the first time soon, as `ip monitor` takes a moment to start. */
const FIRST_LOOK = 300;
const NEXT_LOOK = 5000;

/**
 * The Ethernet interfaces of `ip -j address`, each with its first global address ("" without).
 * @throws WaltError when it is another shape.
 */
export function parseInterfaces(value: unknown): Link[] {
  const links: Link[] = [];
  for (const [index, entry] of new Fields({ links: value }, "ip -j address").array("links").entries()) {
    const fields = new Fields(entry, `ip -j address: entry ${index}`);
    // `ip` prints an empty object for what a filter left out.
    if (!fields.has("ifname") || fields.optionalText("link_type") !== "ether") continue;
    const name = fields.text("ifname", 15);
    const mac = fields.text("address", 60);
    if (OURS.test(name) || !MAC.test(mac)) continue;
    const flags = fields.array("flags");
    const addresses = fields.has("addr_info") ? fields.array("addr_info") : [];
    const global = addresses
      .map((address) => new Fields(address, `ip -j address: ${name}`))
      .find((a) => a.optionalText("scope") === "global" && !a.has("tentative") && !a.has("dadfailed"));
    const up = flags.includes("UP") && flags.includes("LOWER_UP");
    links.push({ name, mac, address: global?.optionalText("local") ?? "", up });
  }
  return links;
}

/** Names of the interfaces with a default route, of `ip -j route show default`. */
export function parseDefaultRoutes(value: unknown): string[] {
  return new Fields({ routes: value }, "ip -j route")
    .array("routes")
    .map((route) => new Fields(route, "ip -j route").optionalText("dev", 15) ?? "");
}

/**
 * The interface to use: the one that is wanted by name, else the wired one with a default route, else the only wired one
 * with an address. A text says why there is none.
 */
export function chooseInterface(
  links: readonly Link[],
  routes: readonly string[],
  wanted: string,
  isWireless: (name: string) => boolean,
): Interface | string {
  if (wanted !== "") {
    const found = links.find((link) => link.name === wanted);
    if (found === undefined) return `there is no network card ${wanted} (device.interface)`;
    if (!found.up) return `${wanted} has no link: is the cable plugged in?`;
    return found.address === "" ? `${wanted} has no address yet` : found;
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
  return routed ?? `${names} have addresses and none has the default route; choose one with device.interface`;
}

function isWireless(name: string): boolean {
  return existsSync(`/sys/class/net/${name}/wireless`) || existsSync(`/sys/class/net/${name}/phy80211`);
}

/** The interface to use now, or why there is none. */
export async function findInterface(wanted: string): Promise<Interface | string> {
  const links = parseInterfaces(await ipJson(["address"]));
  const candidates = links.filter((link) => link.up && link.address !== "");
  if (wanted !== "" || candidates.length < 2) return chooseInterface(links, [], wanted, isWireless);
  const show = ["route", "show", "default"];
  const routes = await Promise.all([ipJson(show), ipJson(["-6", ...show])]);
  return chooseInterface(links, routes.flatMap(parseDefaultRoutes), wanted, isWireless);
}

/** Tells of changes of the machine's network, by `ip monitor`, which is started when somebody first waits. */
export class NetworkWatch {
  #monitor: Child | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(readonly children: Children) {}

  /** Wait until there is an interface to use. `tell` is called with the reason whenever it changes while there is none. */
  async ready(wanted: string, tell: (why: string) => void, signal: AbortSignal): Promise<Interface> {
    let told: string | undefined;
    for (let look = 0; ; look++) {
      signal.throwIfAborted();
      const found = await findInterface(wanted);
      if (typeof found !== "string") return found;
      if (found !== told) tell(found);
      told = found;
      await this.changedOr(look === 0 ? FIRST_LOOK : NEXT_LOOK, signal);
    }
  }

  /**
   * Wait `ms`, or less: until the network that was used is another one, or was lost and is back.
   * Changes that have nothing to do with it, such as those of our own bridge, do not count.
   */
  async quiet(ms: number, used: Interface | undefined, wanted: string, signal: AbortSignal): Promise<void> {
    const until = performance.now() + ms;
    for (let lost = false; ; ) {
      const left = until - performance.now();
      if (left <= 0 || signal.aborted) return;
      const changed = await this.changedOr(left, signal);
      if (!changed) return;
      const found = await findInterface(wanted);
      if (typeof found === "string") lost = true;
      else if (lost || found.name !== used?.name || found.address !== used.address) return;
    }
  }

  /** Wait for a change of links, addresses or routes, `ms` at most, or until `signal` is aborted; whether there was one. */
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

  #start(): Child {
    const monitor = this.children.spawn(["ip", "monitor", "link", "address", "route"], "pipe");
    this.#read(monitor).catch(() => {});
    return monitor;
  }

  async #read(monitor: Child): Promise<void> {
    for await (const _ of monitor.output) for (const wake of this.#waiting) wake();
    this.#monitor = undefined; // it died; the next one who waits starts another
  }
}
