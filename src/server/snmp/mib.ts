/**
 * What SNMP shows of the nodes: a switch with a port for each, that gives power over Ethernet. It has what a WalT
 * server asks of a switch: which MAC address is behind which port (LLDP-MIB of IEEE 802.1AB), what the ports are
 * (IF-MIB, RFC 2863), and whether they give power (POWER-ETHERNET-MIB, RFC 3621).
 */

/**
 * Ports that there are, with a node or without one. A WalT server reads once how ports of the MIBs belong
 * together, and keeps that: so their number never changes.
 */
export const PORTS = 512;
/** The port behind which the network is. It gives no power, and is in LLDP only. */
const UPLINK = PORTS + 1;

/** A port with a node. */
export interface Port {
  /** From 1 to PORTS; a node's never changes. */
  readonly number: number;
  readonly name: string;
  readonly mac: string;
  /** The node's IPv4 address, if it is known. */
  readonly address: string | null;
  /** Whether the node's tunnel is up. */
  readonly up: boolean;
  /** Whether the node's virtual machine has power. */
  readonly power: boolean;
}

/** Numbers of an object identifier. */
export type Oid = readonly number[];

/** A value as snmpd takes it of a `pass_persist` program (snmpd.conf(5)). */
export interface Value {
  readonly type: "integer" | "gauge" | "string" | "octet";
  readonly value: string;
}

/** One object. */
export interface Row extends Value {
  readonly oid: Oid;
}

/** LLDP-MIB without its notifications: `lldpObjects`. */
const LLDP = [1, 0, 8802, 1, 1, 2, 1];
/** IF-MIB: `interfaces`. */
const INTERFACES = [1, 3, 6, 1, 2, 1, 2];
/** POWER-ETHERNET-MIB: `pethPsePortEntry`. All ports are in the first group. */
const POWER = [1, 3, 6, 1, 2, 1, 105, 1, 1, 1];
/** `pethPsePortAdminEnable`, of the first group. */
const ADMIN = [...POWER, 3, 1];

/** The roots of what is shown, as dotted texts: for the rights and registrations in snmpd.conf. */
export const ROOTS = { lldp: ".1.0.8802.1.1.2", interfaces: ".1.3.6.1.2.1.2", power: ".1.3.6.1.2.1.105" };

/** `ethernetCsmacd` (IANAifType-MIB), and bits a second: by these a WalT server knows ports that may give power. */
const ETHERNET = 6;
const SPEED = 1_000_000_000;
/** `LldpChassisIdSubtype` and `LldpPortIdSubtype` for a MAC address, and the port's for a local name. */
const CHASSIS_MAC = 4;
const PORT_MAC = 3;
const PORT_LOCAL = 7;
/** `AddressFamilyNumbers`: IPv4, whose addresses have so many bytes. */
const IPV4 = 1;
const IPV4_BYTES = 4;
/** `LldpManAddrIfSubtype`: unknown. */
const INTERFACE_UNKNOWN = 1;

const integer = (value: number): Value => ({ type: "integer", value: String(value) });
const text = (value: string): Value => ({ type: "string", value });
const macBytes = (mac: string): Value => ({ type: "octet", value: mac.replaceAll(":", " ") });

/**
 * All objects, in their order.
 * @param uplink MAC address of what is behind the uplink; "" if nothing is shown there.
 */
export function rowsOf(ports: readonly Port[], uplink: string): Row[] {
  const rows: Row[] = [{ oid: [...INTERFACES, 1, 0], ...integer(PORTS) }];
  const byNumber = new Map(ports.map((port) => [port.number, port]));
  for (let number = 1; number <= PORTS; number++) rows.push(...portRows(number, byNumber.get(number)));
  if (uplink !== "") rows.push(...localRows(UPLINK, "uplink"), ...neighbourRows(UPLINK, uplink, "uplink"));
  return rows.sort((a, b) => compareOids(a.oid, b.oid));
}

const column = (entry: Oid, which: number, ...index: number[]): Oid => [...entry, which, ...index];

/** LLDP-MIB: a port of the switch. */
function localRows(number: number, name: string): Row[] {
  const local = [...LLDP, 3, 7, 1];
  return [
    { oid: column(local, 2, number), ...integer(PORT_LOCAL) },
    { oid: column(local, 3, number), ...text(String(number)) },
    { oid: column(local, 4, number), ...text(name) },
  ];
}

/** Which neighbour: when the entry changed, which is always at the beginning; the port; the first one there. */
const neighbourIndex = (number: number): Oid => [0, number, 1];

/** LLDP-MIB: what is behind a port. */
function neighbourRows(number: number, mac: string, name: string): Row[] {
  const index = neighbourIndex(number);
  const remote = [...LLDP, 4, 1, 1];
  return [
    { oid: column(remote, 4, ...index), ...integer(CHASSIS_MAC) },
    { oid: column(remote, 5, ...index), ...macBytes(mac) },
    { oid: column(remote, 6, ...index), ...integer(PORT_MAC) },
    { oid: column(remote, 7, ...index), ...macBytes(mac) },
    { oid: column(remote, 9, ...index), ...text(name) },
  ];
}

function portRows(number: number, port: Port | undefined): Row[] {
  const table = [...INTERFACES, 2, 1];
  const name = port === undefined ? `port${number}` : port.name;
  const power = port?.power ?? false;
  const rows: Row[] = [
    { oid: column(table, 1, number), ...integer(number) },
    { oid: column(table, 2, number), ...text(name) },
    { oid: column(table, 3, number), ...integer(ETHERNET) },
    { oid: column(table, 5, number), type: "gauge", value: String(SPEED) },
    // up or down
    { oid: column(table, 8, number), ...integer(port?.up ? 1 : 2) },
    // true or false (TruthValue); deliveringPower, searching or disabled
    { oid: [...ADMIN, number], ...integer(port === undefined || power ? 1 : 2) },
    { oid: column(POWER, 6, 1, number), ...integer(port === undefined ? 2 : power ? 3 : 1) },
    ...localRows(number, name),
  ];
  if (port === undefined) return rows;
  rows.push(...neighbourRows(number, port.mac, port.name));
  if (port.address === null) return rows;
  const address = [...neighbourIndex(number), IPV4, IPV4_BYTES, ...port.address.split(".").map(Number)];
  const management = [...LLDP, 4, 2, 1];
  rows.push(
    { oid: column(management, 3, ...address), ...integer(INTERFACE_UNKNOWN) },
    { oid: column(management, 4, ...address), ...integer(0) },
  );
  return rows;
}

/** The port whose power an object switches; undefined of any other object. */
export function portOfAdmin(oid: Oid): number | undefined {
  const number = oid.at(-1);
  return oid.length === ADMIN.length + 1 && ADMIN.every((part, at) => oid[at] === part) ? number : undefined;
}

/** Negative when `a` comes before `b`. */
export function compareOids(a: Oid, b: Oid): number {
  for (let at = 0; at < a.length && at < b.length; at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** The object of this name. */
export function rowAt(rows: readonly Row[], oid: Oid): Row | undefined {
  const row = rows[firstNotBefore(rows, oid)];
  return row !== undefined && compareOids(row.oid, oid) === 0 ? row : undefined;
}

/** The first object behind this name. */
export function rowAfter(rows: readonly Row[], oid: Oid): Row | undefined {
  const at = firstNotBefore(rows, oid);
  const row = rows[at];
  return row !== undefined && compareOids(row.oid, oid) === 0 ? rows[at + 1] : row;
}

function firstNotBefore(rows: readonly Row[], oid: Oid): number {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle];
    if (row !== undefined && compareOids(row.oid, oid) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
