/** Devices that are revoked, or are about to be: commands name them by their nodes. */

import type { DeviceInfo } from "../../api/messages.ts";
import { plainText, table } from "../../text.ts";
import { minute } from "../_command.ts";

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

/** What will happen to these devices. */
export function aboutRevocation(devices: readonly DeviceInfo[], reenrol: boolean): string {
  const rows = devices.map((d) => [d.node, d.state, d.boardMac, plainText(d.model), d.code]);
  const what = "The tunnels of these nodes end now, and the keys of their boards are refused from now on.";
  const then = reenrol
    ? "The boards are told to forget their keys, and ask for access with new ones. That cannot be undone."
    : "`walt vpn restore NODE` undoes it.";
  return `${table(["NODE", "STATE", "BOARD", "MODEL", "CODE"], rows)}\n${what}\n${then}`;
}

/** What can be done then. @param passes until when each certificate passes the proxies; null when it does not. */
export function afterRevocation(passes: readonly (string | null)[], reenrol: boolean): string {
  const again = reenrol
    ? "A board that is connected hears of it within a minute, others when they connect: see `walt vpn requests`."
    : "To undo it: walt vpn restore NODE. To have a board ask again with a new key: walt vpn revoke NODE --reenrol.";
  const passesUntil = passes
    .filter((one) => one !== null)
    .sort()
    .at(-1);
  if (passesUntil === undefined) return again;
  return (
    `${again}\nA revoked device can still open connections to the proxies, which lead to a server that refuses it, until ${minute(passesUntil)} (UTC).\n` +
    "To keep it out there at once: make the proxies' script again with `walt vpn setup-proxy`, and run it with --limits on each proxy."
  );
}
