/** Why a node is down or not in order, in words. */

import type { NodeInfo, Why } from "../../api/messages.ts";
import { duration } from "../../text.ts";
import { endWords } from "../_events.ts";

/** Of a node whose tunnel is up: what stands behind `up` in a list. */
const SHORT: Readonly<Record<string, string>> = {
  "no-boot-files": "no boot files",
  "no-vm": "no VM",
};

/** The state in a list: `up`, `down`, or `up, no boot files`. */
export function stateOf({ state, why }: Pick<NodeInfo, "state" | "why">): string {
  const more = why === null ? undefined : SHORT[why.kind];
  return more === undefined ? state : `${state}, ${more}`;
}

/** One sentence. */
export function whyWords(why: Why, now = Date.now()): string {
  const at = why.at === null ? "" : `${duration(Math.max(0, now - Date.parse(why.at)))} ago`;
  const reason = why.reason ?? "";
  switch (why.kind) {
    case "never-up":
      return `its tunnel never was up since the device was accepted, ${at}`;
    case "server-ended":
      return `its tunnel was up when the server was killed, ${at}; it has not come back`;
    case "tunnel-ended":
      return `its last tunnel ended ${at}: ${endWords(why.end ?? "")} (${reason})`;
    case "no-tunnel":
      return `its board asked for a tunnel ${at}, and did not get one: ${reason}`;
    case "no-boot-files":
      return `its virtual machine waits for boot files: there is no ${reason}`;
    case "no-vm":
      return `its virtual machine does not run: ${reason}`;
    default:
      return [why.kind, reason].filter(Boolean).join(": ");
  }
}
