/** What the operating system of a card is told besides the device's configuration: `os.txt` on the boot partition, for its scripts. */

import { isIP } from "node:net";
import { usageError } from "../../errors.ts";

export interface OsSettings {
  /** Of the board; `walt-` and the end of its serial number unless told. */
  hostname?: string | undefined;
  /** IPv4 address with prefix length, instead of DHCP. */
  address?: string | undefined;
  /** Of the static address: the default route. */
  gateway?: string | undefined;
  /** Of the static address: who resolves names. */
  dns?: readonly string[] | undefined;
  /** Number of the VLAN that the board is in. */
  vlan?: number | undefined;
  /** NTP servers that set the board's clock, names or addresses; nobody unless told. */
  ntp?: readonly string[] | undefined;
}

/** RFC 1123, 2.1: one label of a host name. */
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const HOST_NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*$`);

/**
 * The file: lines of a key and a value. Undefined where there is nothing to tell.
 * @throws WaltError (usage) naming a value that cannot be.
 */
export function osSettingsFile(o: OsSettings): string | undefined {
  const lines: string[] = [];
  const add = (key: string, value: string, correct: boolean, what: string): void => {
    if (!correct) throw usageError(`${key} ${JSON.stringify(value)} is not ${what}`);
    lines.push(`${key} ${value}\n`);
  };
  if (o.hostname !== undefined)
    add("hostname", o.hostname, new RegExp(`^${LABEL}$`).test(o.hostname), "a host name without dots");
  if (o.vlan !== undefined)
    add(
      "vlan",
      `${o.vlan}`,
      Number.isInteger(o.vlan) && o.vlan >= 1 && o.vlan <= 4094,
      "a VLAN's number, from 1 to 4094",
    );
  if (o.address !== undefined) {
    const [ip = "", length = "", ...rest] = o.address.split("/");
    const correct = isIP(ip) === 4 && /^([1-9]|[12]\d|3[0-2])$/.test(length) && rest.length === 0;
    add("address", o.address, correct, 'an IPv4 address with prefix length, such as "192.168.1.20/24"');
  }
  if (o.gateway !== undefined) add("gateway", o.gateway, isIP(o.gateway) === 4, "an IPv4 address");
  for (const server of o.dns ?? []) add("dns", server, isIP(server) === 4, "an IPv4 address");
  for (const server of o.ntp ?? [])
    add("ntp", server, isIP(server) !== 0 || HOST_NAME.test(server), "a host name or an IP address");
  if (o.address === undefined && (o.gateway !== undefined || (o.dns ?? []).length > 0))
    throw usageError("a gateway and DNS servers are told by DHCP, unless there is a static address");
  return lines.length === 0 ? undefined : lines.join("");
}
