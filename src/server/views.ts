/**
 * The server's state as commands and Prometheus see it: functions of registry, tunnels and walt-net, without
 * I/O.
 */

import { formatHostPort, type HostPort } from "../address.ts";
import type { JournalEvent } from "../api/journal.ts";
import type { DeviceInfo, NodeDetails, NodeInfo, TrustInfo, WaltNode } from "../api/messages.ts";
import { fingerprint, parsePublicKey, publicKeyLine, shortCode } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import { VERSION } from "../version.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { KeyName, ServerKeys } from "./keys.ts";
import type { ServerMetrics } from "./metrics.ts";
import type { WaltNet } from "./net/walt-net.ts";
import type { DiskSpace } from "./notices.ts";
import type { Presence } from "./presence.ts";
import type { Refusals } from "./refusals.ts";
import type { Device } from "./registry.ts";
import type { ReceivedReport, Reports } from "./reports.ts";
import type { Tunnels } from "./tunnels.ts";
import { whyOf } from "./why.ts";

/** What else is known of nodes. */
export interface NodesKnown {
  readonly presence: Pick<Presence, "of">;
  readonly reports: Pick<Reports, "of">;
  readonly net: Pick<WaltNet, "bootSeen">;
}

/** The part of `Tunnels` that is used here. */
export type TunnelsSeen = Pick<Tunnels, "info" | "totals">;

/**
 * The nodes of devices that are not revoked.
 * @param addresses the known IP addresses on walt-net, by MAC address. A node that is not among them is shown
 *   with the address that DHCP will assign to it.
 */
export function nodeList(
  devices: readonly Device[],
  tunnels: TunnelsSeen,
  addresses: ReadonlyMap<string, string>,
  { presence, reports, net }: NodesKnown,
  now = new Date(),
): NodeInfo[] {
  return devices.map((device) => {
    const tunnel = tunnels.info(device);
    const address = addresses.get(device.mac) ?? device.address;
    const boot = address === null ? undefined : net.bootSeen(address);
    const [seen, report] = [presence.of(device), reports.of(device)];
    const why = whyOf({ acceptedAt: device.acceptedAt, tunnel, seen, boot, report }, now);
    const up = tunnel?.state === "up" ? tunnel : undefined;
    const stats = up?.stats;
    return {
      name: device.node,
      defaultName: device.defaultName,
      note: device.note,
      type: "vpn",
      state: tunnel?.state ?? "down",
      mac: device.mac,
      address,
      why,
      seen: up === undefined ? (seen?.seenAt ?? null) : now.toISOString(),
      since: up?.since.toISOString() ?? seen?.seenAt ?? null,
      via: up?.via || null,
      framing: up?.framing ?? null,
      mtu: up?.mtu ?? null,
      rtt: stats?.rtt || null,
      loss: stats !== undefined && stats.pings > 0 ? stats.loss : null,
      traffic: stats ?? null,
    };
  });
}

/** @param devices all, revoked ones too. */
export function deviceList(devices: readonly Device[], tunnels: TunnelsSeen): DeviceInfo[] {
  return devices.map((device) => {
    const key = parsePublicKey(device.publicKey, `registry: key of ${device.node}`);
    return {
      node: device.node,
      defaultName: device.defaultName,
      state: device.revokedAt === null ? (tunnels.info(device)?.state ?? "down") : "revoked",
      boardMac: device.boardMac,
      model: device.model,
      serialNumber: device.serialNumber,
      fingerprint: fingerprint(key),
      code: shortCode(key),
      acceptedAt: device.acceptedAt,
      acceptedBy: device.acceptedBy,
      certificateSerial: String(device.certificateSerial),
      certificateExpires: device.certificateExpires,
      revokedAt: device.revokedAt,
      reenrol: device.reenrol,
    };
  });
}

/**
 * All that is known of one node.
 * @param events the last ones of the journal about it.
 * @param walt what a WalT server on this machine knows of it.
 */
export function nodeDetails(
  node: NodeInfo,
  device: DeviceInfo,
  events: JournalEvent[],
  report: ReceivedReport | undefined,
  walt: WaltNode | undefined,
): NodeDetails {
  const told = report && { receivedAt: report.receivedAt.toISOString(), facts: report.facts };
  const known = walt === undefined ? {} : { walt };
  return { ...node, device, events, ...known, serverVersion: VERSION, report: told ?? null };
}

/** @param devices all, revoked ones too. */
export function metricsSnapshot(
  devices: readonly Device[],
  tunnels: TunnelsSeen,
  requests: Pick<AccessRequests, "monitors" | "pending">,
  reports: Pick<Reports, "of">,
  refusals: Pick<Refusals, "count">,
  disk: DiskSpace,
): ServerMetrics {
  const current = devices.filter((device) => device.revokedAt === null);
  return {
    version: VERSION,
    nodes: current.map((device) => {
      const tunnel = tunnels.info(device);
      const up = tunnel?.state === "up";
      const now = up ? { stats: tunnel.stats, report: reports.of(device)?.facts } : { stats: undefined };
      return {
        node: device.node,
        up,
        totals: tunnels.totals(device),
        refusals: refusals.count(device),
        ...now,
      };
    }),
    revoked: devices.length - current.length,
    monitors: requests.monitors,
    pending: requests.pending.length,
    disk,
  };
}

/**
 * @param revoked devices that are revoked, and whose certificates are still valid
 * @param address by which proxies reach this server.
 */
export function trustInfo(keys: ServerKeys, revoked: readonly Device[], address: HostPort): TrustInfo {
  const lines = (name: KeyName): string[] => keys.all(name).map((one) => publicKeyLine(one.publicKey));
  return {
    cas: lines("ca"),
    hostKeys: lines("host"),
    enrolmentPublicKeys: lines("enrolment"),
    enrolmentPrivateKey: encodePrivateKey(keys.nextOf("enrolment") ?? keys.of("enrolment")),
    revoked: revoked.map((device) => device.publicKey),
    mark: keys.mark,
    caFile: keys.caFile,
    address: formatHostPort(address),
    version: VERSION,
  };
}
