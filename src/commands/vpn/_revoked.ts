/** Revoked devices, which commands name by their nodes. */

import type { DeviceInfo } from "../../api/messages.ts";

/** A revoked device under the name of its node. */
export interface RevokedNode extends DeviceInfo {
  readonly name: string;
}

/** All of them. */
export function revokedNodes(devices: readonly DeviceInfo[]): RevokedNode[] {
  return devices.filter(({ state }) => state === "revoked").map((one) => ({ ...one, name: one.node }));
}

/** Of each node the device that was revoked last. */
export function lastRevoked(devices: readonly DeviceInfo[]): RevokedNode[] {
  const sorted = revokedNodes(devices).toSorted((a, b) =>
    (a.revokedAt ?? "").localeCompare(b.revokedAt ?? ""),
  );
  return [...new Map(sorted.map((one) => [one.node, one])).values()];
}
