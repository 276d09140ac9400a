/** What a monitor is told: requests, what became of them, and nodes that come and go. */

import type { DenialReason } from "./messages.ts";

/** A device that waits for an answer. Strings are safe for a terminal. */
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
  /** A warning for the operator, such as another registered device with the same MAC address. */
  warning?: string;
}

export type Outcome = "accepted" | "denied" | "expired" | "withdrawn";

/** What a monitor is told, one JSON object per line. */
export type MonitorEvent =
  | { type: "watching" }
  | { type: "request"; request: PendingRequest }
  | { type: "answered"; id: string; outcome: Outcome; by: string; node?: string; reason?: DenialReason }
  | { type: "node"; node: string; state: NodeState; via: string }
  | { type: "alive" };

export type NodeState = "up" | "down";
