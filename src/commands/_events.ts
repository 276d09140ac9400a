/** Events of the journal, for people. */

import { JOURNAL_KINDS, type JournalEvent, type JournalKind } from "../api/journal.ts";
import type { EndKind } from "../end.ts";
import { duration } from "../text.ts";
import { localTime, minute } from "./_command.ts";
import { type Column, listText } from "./_table.ts";
import { terminalWidth } from "./_terminal.ts";

/** Why a tunnel went down. The server's tunnel ends with some of these kinds only. */
const ENDS: Readonly<Partial<Record<EndKind, string>>> = {
  silent: "the device was silent",
  stalled: "the device took nothing",
  closed: "the connection was closed",
  broken: "the connection failed",
  "closed-by-peer": "the device ended it",
  malformed: "the device violated the protocol",
  excess: "the device asked too much",
  tap: "the server's TAP is gone",
  stopped: "the server ended it",
  fault: "a bug in walt",
};

/** Why a tunnel ended, from the kind of its end; the kind itself if only a newer version knows it. */
export function endWords(end: string): string {
  return Object.entries(ENDS).find(([kind]) => kind === end)?.[1] ?? end;
}

type Words = (one: JournalEvent["details"]) => string;

const board: Words = ({ code, board, model }) => `${code}, ${board}, ${model}`;
const invited: Words = ({ invited }) => (invited === "token" ? "token" : "expected board");

/** An order for a board. */
function orderWords({ order, mode, what, settings, within }: JournalEvent["details"]): string {
  switch (order) {
    case "console":
      return mode === "watch" ? "console watched" : mode === "take" ? "console taken" : "console opened";
    case "reboot":
      return `reboot of the ${what === "vm" ? "virtual machine" : what}`;
    case "power":
      return `virtual machine switched ${what}`;
    case "set":
      return `settings to be tried within ${within} s: ${settings}`;
    default:
      return `order: ${order}`;
  }
}

const WORDS: Readonly<Record<JournalKind, Words>> = {
  "enrolment-requested": (one) => `a device asked for access: ${board(one)}, from ${one["from"]}`,
  "enrolment-denied": (one) => `denied: ${board(one)}`,
  "device-accepted": (one) => `accepted: ${board(one)}`,
  "device-revoked": ({ reenrol }) =>
    reenrol === "ordered" ? "revoked; its board is told to forget its key and ask again" : "revoked",
  "device-restored": () => "restored",
  "device-removed": ({ code }) => `removed: ${code}`,
  "certificate-refused": ({ reason }) => `its certificate was refused: ${reason}`,
  "tunnel-up": ({ via }) => (via === "" ? "up" : `up, through ${via}`),
  "tunnel-down": ({ end, reason, lasted }) => {
    return `down after ${duration(Number(lasted))}: ${endWords(String(end))} (${reason})`;
  },
  "certificate-renewed": () => "certificate renewed",
  "node-renamed": ({ was }) => `renamed, was ${was}`,
  "node-noted": ({ note }) => (note === "" ? "note removed" : `note: ${note}`),
  "node-board": ({ board: mac, was }) => `its board is ${mac}, was ${was}`,
  "key-shared": ({ board: mac, other }) => `two devices use this key: MAC ${mac} and MAC ${other}`,
  order: orderWords,
  "invitation-added": (one) =>
    `${invited(one)} ${one["invitation"]} added, until ${minute(String(one["expires"]))} (UTC)`,
  "invitation-withdrawn": (one) => `${invited(one)} ${one["invitation"]} withdrawn`,
  "rotation-began": ({ key }) => `a new ${key} key stands beside the old one`,
  "rotation-finished": ({ key }) => `the new ${key} key took the place of the old one`,
  "server-ready": ({ version }) => `the server started, walt ${version}`,
  "server-stops": ({ reason = "" }) => `the server stops${reason === "" ? "" : `: ${reason}`}`,
};

/** What happened, in words. What only a newer version knows is shown by its kind. */
export function wordsOf({ kind, details }: JournalEvent): string {
  const known = JOURNAL_KINDS.find((one) => one === kind);
  return known === undefined ? kind : WORDS[known](details);
}

export const EVENT_COLUMNS: readonly Column<JournalEvent>[] = [
  { title: "TIME", cell: ({ at }) => localTime(at) },
  { title: "NODE", cell: ({ node }) => node ?? "-" },
  { title: "BY", cell: ({ by }) => by ?? "-", spare: 1 },
  { title: "WHAT", cell: wordsOf, isText: true },
];

/** Events as a table that fits the terminal. */
export function eventsText(events: readonly JournalEvent[]): string {
  return listText({ columns: EVENT_COLUMNS }, events, {}, terminalWidth()).text;
}

/** An event as a line of its own. */
export function eventLine(event: JournalEvent): string {
  const { at, node, by } = event;
  return [localTime(at), (node ?? "-").padEnd(10), (by ?? "-").padEnd(5), wordsOf(event)].join("  ");
}
