/**
 * What counts as one source of connections: an IPv4 address, or the 64 bits of an IPv6 network that one
 * customer has.
 */

import { isIPv6 } from "node:net";

/**
 * An IPv4 address that a socket of both families shows as `::ffff:192.0.2.1`, as such; any other as it is.
 */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/, "");
}

/** "192.0.2.1", or of an IPv6 address its first 64 bits: "2001:db8:0:1::/64". */
export function sourceOf(address: string): string {
  const plain = plainAddress(address).replace(/%.*$/, "");
  if (!isIPv6(plain)) return plain;
  const [head = "", tail = ""] = plain.split("::");
  const groups = (text: string): string[] => (text === "" ? [] : text.split(":"));
  const zeros = Array.from({ length: Math.max(0, 8 - groups(head).length - groups(tail).length) }, () => "0");
  return `${[...groups(head), ...zeros, ...groups(tail)].slice(0, 4).join(":")}::/64`;
}
