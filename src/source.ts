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
  const [before = "", after] = address.split("::");
  const groups = (text: string): string[] => text.split(":").filter((group) => group !== "");
  const [left, right] = [groups(before), groups(after ?? "")];
  const zeros =
    after === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  const network = [...left, ...zeros, ...right].slice(0, 4);
  return `${network.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}
