/** Why a node is down, or not in order although its tunnel is up, as far as the server knows. Without I/O. */

import type { Why } from "../api/messages.ts";
import type { BootSeen } from "./net/boot-files.ts";
import type { Seen } from "./registry.ts";
import type { ReceivedReport } from "./reports.ts";
import type { TunnelInfo } from "./tunnels.ts";

/** ms after which a missing boot file is of the past: a node that gets none asks every 5 s. */
const BOOT_ASKS = 60_000;

export interface Known {
  readonly acceptedAt: string;
  /** Undefined if none was asked for since the server's start. */
  readonly tunnel: Pick<TunnelInfo, "state" | "problem"> | undefined;
  /** Undefined if it never was up. */
  readonly seen: Seen | undefined;
  /** The node's last request for its boot script; undefined if there was none, or another program serves it. */
  readonly boot: BootSeen | undefined;
  readonly report: ReceivedReport | undefined;
}

/** @returns null where nothing is known to be wrong. */
export function whyOf({ acceptedAt, tunnel, seen, boot, report }: Known, now: Date): Why | null {
  if (tunnel?.state === "up") return whyNotInOrder(boot, report, now);
  if (tunnel?.problem !== undefined) {
    const { at, text } = tunnel.problem;
    return { kind: "no-tunnel", at: at.toISOString(), end: null, reason: text };
  }
  if (seen === undefined) return { kind: "never-up", at: acceptedAt, end: null, reason: null };
  const { endedAt, seenAt, end, reason } = seen;
  if (endedAt === null) return { kind: "server-ended", at: seenAt, end: null, reason: null };
  return { kind: "tunnel-ended", at: endedAt, end, reason };
}

function whyNotInOrder(
  boot: BootSeen | undefined,
  report: ReceivedReport | undefined,
  now: Date,
): Why | null {
  if (boot?.missing != null && now.getTime() - boot.at.getTime() < BOOT_ASKS)
    return { kind: "no-boot-files", at: boot.at.toISOString(), end: null, reason: boot.missing };
  if (report?.facts.vm.state !== "waiting") return null;
  const { lastEnd } = report.facts.vm;
  return { kind: "no-vm", at: report.receivedAt.toISOString(), end: null, reason: lastEnd.reason };
}
