/** What a monitor is told: requests for access, what became of them, and nodes that come and go. */

import { DENIALS } from "../enrolment/messages.ts";
import type { Fields } from "../parse.ts";
import { MAX_ENTRYPOINT, parseNodeState } from "./messages.ts";
import { parseNotice } from "./notice.ts";

/** A device that waits for an answer. What it says about itself is printable ASCII of at most 40 characters. */
export type PendingRequest = ReturnType<typeof parseRequest>;

export type Outcome = (typeof OUTCOMES)[number];

/** Warnings of a request, and addresses in an `overload`, at most. */
const MAX_WARNINGS = 20;
const MAX_SOURCES = 20;

const OUTCOMES = ["accepted", "denied", "expired", "withdrawn"] as const;

/**
 * What a monitor is told, one JSON object per line. A `request` whose id was told before has changed: it has
 * more warnings. `overload` tells that `denied` more requests, from these addresses among others, were denied
 * because of the limits.
 */
export type MonitorEvent = NonNullable<ReturnType<typeof parseMonitorEvent>>;

/** @returns undefined for an event of a kind that only a newer version knows: it is ignored. */
export function parseMonitorEvent(f: Fields) {
  const type = f.text("type", 40);
  switch (type) {
    case "watching":
    case "alive":
      return { type } as const;
    case "request":
      return { type, request: parseRequest(f.object("request")) } as const;
    case "answered":
      return {
        type,
        id: f.words("id", 40),
        outcome: f.choice("outcome", OUTCOMES),
        by: f.words("by"),
        ...f.optional("node", (key) => f.words(key)),
        ...f.optional("reason", (key) => f.choice(key, DENIALS)),
      } as const;
    case "overload":
      return {
        type,
        denied: f.integer("denied", 0, 1e9),
        from: f.wordList("from", MAX_SOURCES, 100),
      } as const;
    case "key-shared":
      return { type, node: f.words("node"), boards: f.wordList("boards", 2, 17) } as const;
    case "notice":
      return { type, notice: parseNotice(f.object("notice")) } as const;
    case "node":
      return {
        type,
        node: f.words("node"),
        state: parseNodeState(f),
        via: f.words("via", MAX_ENTRYPOINT),
      } as const;
    default:
      return undefined;
  }
}

/** A request for access in a listing: one that waits, or one that is remembered. */
export type ListedRequest = ReturnType<typeof parseListedRequest>;

export function parseListedRequest(f: Fields) {
  return {
    ...parseRequest(f),
    /**
     * waiting: the device waits, and the monitors show it. remembered: it was denied because no operator was
     * there; it asks again. denied: an operator has denied it, and it is not shown to monitors any more.
     */
    state: f.choice("state", ["waiting", "remembered", "denied"]),
    /** How often it asked while nobody was there. */
    asked: f.integer("asked", 0, 1e9),
    lastAskedAt: f.time("lastAskedAt"),
  };
}

function parseRequest(f: Fields) {
  return {
    id: f.words("id", 40),
    mac: f.words("mac"),
    model: f.words("model"),
    serialNumber: f.words("serialNumber"),
    /** Address that the connection came from, as the server sees it: the last proxy's. */
    address: f.words("address"),
    fingerprint: f.words("fingerprint"),
    code: f.words("code"),
    receivedAt: f.time("receivedAt"),
    expiresAt: f.time("expiresAt"),
    /** For the operator, such as of another device with the same MAC address. */
    warnings: f.wordList("warnings", MAX_WARNINGS, 1000),
  };
}
