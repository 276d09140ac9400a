/** Whether a managed walt-net has addresses that another network of the server has as well. */

import { isIPv4 } from "node:net";
import { Fields } from "../../parse.ts";

/** A network that shares addresses with walt-net. */
export interface Collision {
  /** The interface that leads to it. */
  readonly card: string;
  /** Its own: `192.168.192.5/24`; of a route its destination. */
  readonly network: string;
  /**
   * It is a route to a network that is larger than walt-net, as VPNs have them: of that network only the
   * machines with walt-net's addresses are lost.
   */
  readonly isWiderRoute: boolean;
}

/** In words. @param own as for `collisionOf`. */
export function collisionText(own: string, bridge: string, { card, network }: Collision): string {
  return `walt-net (${own}, on ${bridge}) has addresses that the network of ${card} (${network}) has as well`;
}

/** What to do. @param free a network that can be had; undefined if none is known. */
export function collisionCure(free: string | undefined): string {
  const example =
    free === undefined ? "" : `, such as server.network.address = "${free}", which is free here`;
  return `Choose another network for walt-net in vpn.toml${example}. With the same addresses the server would answer for machines of the other network, or lose them.`;
}

/** Networks for walt-net, the best first: WalT's own, then such as few others use. */
const CANDIDATES: readonly string[] = [
  "192.168.192.1/22",
  ...[213, 214, 215, 216, 217, 218].map((second) => `10.${second}.0.1/22`),
  ...[196, 200, 204, 208, 212].map((third) => `192.168.${third}.1/22`),
];

/** A network for walt-net that no other network of the machine touches. Parameters as for `collisionOf`. */
export function freeNetwork(
  bridge: string,
  addresses: readonly unknown[],
  routes: readonly unknown[],
): string | undefined {
  return CANDIDATES.find((one) => collisionOf(one, bridge, addresses, routes) === undefined);
}

/**
 * The first such network; undefined if there is none. A default route is none.
 * @param own the server's own address on walt-net with the length of the prefix, `192.168.192.1/22`.
 * @param bridge walt-net's own interface, which is passed over.
 * @param addresses what `ip -j -4 address` prints, parsed. @param routes the same of `ip -j -4 route`.
 * @throws WaltError when they have another shape.
 */
export function collisionOf(
  own: string,
  bridge: string,
  addresses: readonly unknown[],
  routes: readonly unknown[],
): Collision | undefined {
  const cards = addresses.map((entry) => new Fields(entry, "ip -j address"));
  const used = cards.flatMap((card) => {
    const name = card.optionalText("ifname", 15);
    const list = name === undefined || !card.has("addr_info") ? [] : card.array("addr_info");
    return list.map((entry) => {
      const address = new Fields(entry, `ip -j address: ${name}`);
      const length = address.has("prefixlen") ? address.integer("prefixlen", 0, 128) : 32;
      return { card: name ?? "", network: `${address.optionalText("local", 60) ?? ""}/${length}` };
    });
  });
  const routed = routes.map((entry) => {
    const route = new Fields(entry, "ip -j route");
    const to = route.optionalText("dst", 60) ?? "";
    return { card: route.optionalText("dev", 15) ?? "", network: to.includes("/") ? to : `${to}/32` };
  });
  const others = [...used, ...routed].filter(
    ({ card, network }) => card !== bridge && overlaps(own, network),
  );
  const wider = ({ network }: { network: string }): boolean => lengthOf(network) < lengthOf(own);
  const first = others.find((one) => used.includes(one) || !wider(one)) ?? others[0];
  return first === undefined ? undefined : { ...first, isWiderRoute: !used.includes(first) && wider(first) };
}

/**
 * Whether two IPv4 networks, `address/length` each, share an address. The whole Internet (length 0) is no
 * network.
 */
function overlaps(one: string, other: string): boolean {
  const [a, b] = [parse(one), parse(other)];
  if (a === undefined || b === undefined) return false;
  const size = 2 ** (32 - Math.min(a.length, b.length));
  return Math.floor(a.number / size) === Math.floor(b.number / size);
}

function lengthOf(network: string): number {
  return parse(network)?.length ?? 32;
}

function parse(network: string): { number: number; length: number } | undefined {
  const [address = "", length = ""] = network.split("/");
  if (!isIPv4(address) || !/^\d{1,2}$/.test(length) || length === "0") return undefined;
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  return { number, length: Number(length) };
}
