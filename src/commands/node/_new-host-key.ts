/**
 * What is told of a host key that a node has not shown before. An image is recognised by its host key: the name of an
 * image says less, as its content changes, and only WalT knows it.
 */

import type { NodeDetails } from "../../api/messages.ts";
import { localTime } from "../_command.ts";
import { type KnownKey, shownKey } from "./_known-nodes.ts";

/** Known keys that are shown, the newest ones, and other nodes. */
const MAX_SHOWN = 3;
const MAX_OTHERS = 5;

export interface NewKey {
  /** The node's name. */
  readonly name: string;
  /** "keytype base64" */
  readonly key: string;
  /** The keys that the node has shown before, in the order in which they were learnt. */
  readonly known: readonly KnownKey[];
  /** Names of other nodes that have shown the new key. */
  readonly others: readonly string[];
  /** Whether the node has rebooted since the last known key was learnt; undefined if nothing tells. */
  readonly rebooted: boolean | undefined;
}

/** Lines from which a person can judge whether the node has booted another image. */
export function aboutNewKey({ name, key, known, others, rebooted }: NewKey): string {
  return [
    `  now:    ${shownKey(key)}`,
    ...known
      .slice(-MAX_SHOWN)
      .map((one) => `  before: ${shownKey(one.key)}, since ${localTime(one.learnt)}`)
      .toReversed(),
    "Each image has host keys of its own. Without another image, another machine may answer there.",
    ...(others.length === 0
      ? []
      : [`${others.slice(0, MAX_OTHERS).join(", ")} showed the same key: probably the same image.`]),
    ...(rebooted === undefined ? [] : [rebooted ? REBOOTED : NOT_REBOOTED]),
    `To see the node's own keys, type \`ssh-keygen -lf FILE\` at \`walt node console ${name}\`,`,
    "for the files /etc/ssh/ssh_host_*_key.pub.",
  ].join("\n");
}

const REBOOTED = "The node has rebooted since the last known key was learnt.";
const NOT_REBOOTED =
  "The node has NOT rebooted since the last known key was learnt, so it has not booted another image.";

/**
 * Whether a node has rebooted since a time at which it was up, as its device's last report tells: a reboot of the
 * guest ends the virtual machine. The board's clock may be wrong, so that only its durations count.
 * @param since ms since 1970.
 * @returns undefined if the report does not tell.
 */
export function rebootedSince(report: NodeDetails["report"], since: number): boolean | undefined {
  if (report === null || report.facts.vm.state !== "running") return undefined;
  const { at, vm, uptime } = report.facts;
  if (at === null || uptime.supervisor === null) return undefined;
  // Without an end there was none since the supervisor's start.
  const { at: end } = vm.lastEnd;
  const age = end === null ? 1000 * uptime.supervisor : Date.parse(at) - Date.parse(end);
  return Date.parse(report.receivedAt) - age > since;
}
