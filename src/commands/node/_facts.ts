/** What the server knows of a node, in rows for people. */

import type { NodeDetails, NodeInfo, WaltNode } from "../../api/messages.ts";
import { duration, plainText } from "../../text.ts";
import { localTime, minute } from "../_command.ts";
import { reportRows } from "./_report.ts";
import { stateOf, whyWords } from "./_why.ts";

export function sinceOf(n: NodeInfo): string {
  return n.since === null ? "-" : `${duration(Date.now() - Date.parse(n.since))} ago`;
}

export function viaOf(n: NodeInfo): string {
  return n.via ?? (n.framing === "original" ? "(original framing)" : "-");
}

/** What WalT knows of it, beside what we know. */
function waltRows({ name, model, image, booted, address }: WaltNode): [string, string][] {
  return [
    ["WalT's name", name],
    ["WalT's model", model ?? "-"],
    ["WalT's image", image ?? "-"],
    ["WalT's state", booted === null ? "-" : booted ? "booted" : "not booted"],
    ["WalT's address", address ?? "-"],
  ];
}

/** All that is known of a node but the counters of its tunnel. */
export function factsOf(n: NodeDetails): [what: string, value: string][] {
  const { device } = n;
  const certificate = device.certificateExpires;
  return [
    ["name", n.name],
    ["default name", n.defaultName],
    ["note", n.note === "" ? "-" : n.note],
    ["type", n.type],
    ["state", stateOf(n)],
    ...(n.why === null ? [] : [["why", whyWords(n.why)] as [string, string]]),
    ["last seen", n.seen === null ? "never" : localTime(n.seen)],
    ["since", sinceOf(n)],
    ["MAC address", n.mac],
    ["address", n.address ?? "-"],
    ["board", device.boardMac],
    ["model", plainText(device.model)],
    ["serial number", plainText(device.serialNumber)],
    ["short code", device.code],
    ["key", device.fingerprint],
    ["accepted", `${localTime(device.acceptedAt)} by ${device.acceptedBy}`],
    ["certificate", certificate === "" ? "-" : `until ${minute(certificate)} (UTC)`],
    ["entrypoint", viaOf(n)],
    ["framing", n.framing ?? "-"],
    ["MTU", n.mtu === null ? "-" : String(n.mtu)],
    ["server", `walt ${n.serverVersion}`],
    ...(n.walt === undefined ? [] : waltRows(n.walt)),
    ...(n.report === null ? [] : reportRows(n.report.facts, Date.parse(n.report.receivedAt))),
  ];
}
