/** The question by which `walt doctor` finds out whether a name server answers (RFC 1035 section 4). */

import { isIP } from "node:net";

/** Where names are asked for. */
export const DNS_PORT = 53;
const RCODES = ["no error", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

/** A question for the IPv4 address of a host name. @param id 16 bits, by which the answer is known. */
export function dnsQuestion(name: string, id: number): Uint8Array {
  const labels = name.split(".").filter((label) => label !== "");
  const parts = [
    // Recursion desired; one question.
    Buffer.from([id >> 8, id & 0xff, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]),
    ...labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label, "latin1")])),
    // The end of the name; type A; class IN.
    Buffer.from([0, 0, 1, 0, 1]),
  ];
  return Buffer.concat(parts);
}

/** What an answer says: `no error`, `NXDOMAIN`, …; undefined if it is not the answer to this question. */
export function dnsAnswer(bytes: Uint8Array, id: number): string | undefined {
  const [high = 0, low = 0, flags = 0, more = 0] = bytes;
  if (bytes.length < 12 || ((high << 8) | low) !== id || (flags & 0x80) === 0) return undefined;
  return RCODES[more & 0x0f] ?? `code ${more & 0x0f}`;
}

/** The name servers of a resolv.conf(5), at most three, as the C library uses them. */
export function nameServers(resolvConf: string): string[] {
  return resolvConf
    .split("\n")
    .flatMap((line) => /^nameserver\s+(\S+)/.exec(line)?.[1] ?? [])
    .filter((server) => isIP(server) !== 0)
    .slice(0, 3);
}
