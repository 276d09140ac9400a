/** What counts as one source of connections: an IPv4 address, or the IPv6 network of one site. */

import { isIPv6 } from "node:net";

/**
 * An IPv4 address that a socket of both families shows as `::ffff:192.0.2.1`, as such; any other as it is.
 */
export function plainAddress(ip: string): string {
  return ip.replace(/^::ffff:(?=\d+\.)/, "");
}

/**
 * The source of an address: "192.0.2.1", or of an IPv6 address its first 64 bits, "2001:db8:0:1::/64". A site
 * has at least one such network (RFC 6177), and can use every address in it.
 */
export function sourceOf(ip: string): string {
  const address = plainAddress(ip).replace(/%.*$/, "");
  if (!isIPv6(address)) return address;
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined)
    while (groups.length < 8 - (tail === "" ? 0 : tail.split(":").length)) groups.push("0");
  const network = [...groups, "0", "0", "0", "0"].slice(0, 4).map((group) => Number.parseInt(group, 16));
  return `${network.map((group) => group.toString(16)).join(":")}::/64`;
}
