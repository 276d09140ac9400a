/** Settings of the card's operating system: `os.txt` on the boot partition, which the card's scripts read. */

import { isIP } from "node:net";
import { usageError } from "../../errors.ts";
import { quoted } from "../../text.ts";

/** Settings that the user gives when an image is written; each of them may be left out. */
export interface OsSettings {
  /** Host name of the board. Without it, the name is `walt-` and the end of the board's serial number. */
  hostname?: string | undefined;
  /**
   * A static IPv4 address with its prefix length, such as `192.168.1.20/24`. Without it, the board uses DHCP.
   */
  address?: string | undefined;
  /** IPv4 address of the default router; only with a static address. */
  gateway?: string | undefined;
  /** IPv4 addresses of DNS servers; only with a static address. */
  dns?: readonly string[] | undefined;
  /** Number of the VLAN that the board uses, 1 to 4094. Without it, frames are not tagged. */
  vlan?: number | undefined;
  /** Bytes of the largest packet, 576 to 9000. Without it, the DHCP server or the network card decides. */
  mtu?: number | undefined;
  /** Names or addresses of NTP servers that set the board's clock. Without them, no NTP server is asked. */
  ntp?: readonly string[] | undefined;
}

/** One label of a host name (RFC 1123, section 2.1). */
const LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const HOST_NAME = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})*$`);

/**
 * The content of `os.txt`: one key and one value a line. Undefined when no setting is given.
 * @throws WaltError (usage) naming a value that is not valid.
 */
export function osSettingsFile(o: OsSettings): string | undefined {
  const lines: string[] = [];
  const add = (key: string, value: string, correct: boolean, what: string): void => {
    if (!correct) throw usageError(`${key} ${quoted(value)} is not ${what}`);
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
  if (o.mtu !== undefined)
    add(
      "mtu",
      `${o.mtu}`,
      Number.isInteger(o.mtu) && o.mtu >= 576 && o.mtu <= 9000,
      "an MTU, from 576 to 9000",
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
    throw usageError(
      "a gateway or a DNS server is given without a static address",
      "Give a static address too, or leave them out: with DHCP, the board learns them from the DHCP server.",
    );
  return lines.length === 0 ? undefined : lines.join("");
}
