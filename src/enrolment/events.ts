/** What a monitor is told: requests, what became of them, and nodes that come and go. */

import type { DenialReason } from "./messages.ts";

/**
 * A device that waits for an answer. What it says about itself is printable ASCII of at most 40 characters.
 */
export interface PendingRequest {
  id: string;
  mac: string;
  model: string;
  serialNumber: string;
  /** Address that the connection came from, as the server sees it: the last proxy's. */
  address: string;
  fingerprint: string;
  code: string;
  /** ISO 8601 times. */
  receivedAt: string;
  expiresAt: string;
  /** For the operator, such as of another device with the same MAC address. */
  warnings: readonly string[];
}

export type Outcome = "accepted" | "denied" | "expired" | "withdrawn";

/**
 * What a monitor is told, one JSON object per line. A `request` whose id was told before has changed: it has
 * more warnings. `overload` tells that `denied` more requests, from these addresses among others, were denied
 * because of the limits.
 */
export type MonitorEvent =
  | { type: "watching" }
  | { type: "request"; request: PendingRequest }
  | { type: "answered"; id: string; outcome: Outcome; by: string; node?: string; reason?: DenialReason }
  | { type: "overload"; denied: number; from: readonly string[] }
  | { type: "node"; node: string; state: NodeState; via: string }
  | { type: "alive" };

export type NodeState = "up" | "down";
