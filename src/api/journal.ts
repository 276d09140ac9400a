/** The journal as commands see it: what happened to nodes and to the server, and who gave the order. */

import type { LogEvent } from "../log-events.ts";
import type { Fields } from "../parse.ts";

/** What the journal keeps: some events of the log, by the same words. */
export const JOURNAL_KINDS = [
  "enrolment-requested",
  "enrolment-denied",
  "device-accepted",
  "device-revoked",
  "device-restored",
  "device-removed",
  "certificate-refused",
  "tunnel-up",
  "tunnel-down",
  "certificate-renewed",
  "node-renamed",
  "node-noted",
  "node-board",
  "key-shared",
  "order",
  "invitation-added",
  "invitation-withdrawn",
  "rotation-began",
  "rotation-finished",
  "server-ready",
  "server-stops",
] as const satisfies readonly LogEvent[];

export type JournalKind = (typeof JOURNAL_KINDS)[number];

/** More about an event: which fields there are follows from its kind (docs/protocol.md). */
export type Details = Record<string, string | number>;

/** Longest text in the details, in characters. */
export const MAX_DETAIL_TEXT = 300;
/** Events in one answer, at most. */
export const MAX_EVENTS = 1000;

export type JournalEvent = ReturnType<typeof parseJournalEvent>;

export function parseJournalEvent(f: Fields) {
  return {
    /** Later events have larger numbers. */
    id: f.integer("id", 1, Number.MAX_SAFE_INTEGER),
    at: f.time("at"),
    /** A JournalKind, or one that only a newer version knows. */
    kind: f.text("kind", 40, /^[a-z][a-z-]*$/),
    /** What the node was called then; null for an event of no node. */
    node: f.orNull("node", (key) => f.words(key)),
    /** The operator who gave the order; null if nobody did. */
    by: f.orNull("by", (key) => f.words(key)),
    details: parseDetails(f.object("details")),
  };
}

function parseDetails(f: Fields): Details {
  return Object.fromEntries(
    f
      .keys()
      .map((key) => [
        key,
        typeof f.value(key) === "number" ? f.number(key, -1e15, 1e15) : f.words(key, MAX_DETAIL_TEXT),
      ]),
  );
}

/** Which events are asked for: the newest `last`; else the oldest ones after the number `after`. */
export function parseEventsWanted(f: Fields) {
  return {
    ...f.optional("last", (key) => f.digits(key)),
    ...f.optional("after", (key) => f.digits(key)),
    /** Not earlier than this. */
    ...f.optional("since", (key) => f.time(key)),
    /** Only of the node with this name, now or then. */
    ...f.optional("node", (key) => f.words(key)),
  };
}

/** What a command that follows the journal is told. */
export type Followed = NonNullable<ReturnType<typeof parseFollowed>>;

/** @returns undefined for what only a newer version knows: it is ignored. */
export function parseFollowed(f: Fields) {
  const type = f.text("type", 40);
  if (type === "alive") return { type } as const;
  return type === "event" ? ({ type, event: parseJournalEvent(f.object("event")) } as const) : undefined;
}

/** Where to begin to follow: after the event with this number. */
export function parseFollow(f: Fields) {
  return { after: f.digits("after") };
}
