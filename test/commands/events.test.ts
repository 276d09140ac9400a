/** Events of the journal in words. */

import { expect, test } from "bun:test";
import { type Details, JOURNAL_KINDS } from "../../src/api/journal.ts";
import { wordsOf } from "../../src/commands/_events.ts";

const event = (kind: string, details: Details = {}) => ({
  ...{ id: 1, at: "2026-03-01T12:00:00.000Z", kind, node: "lab-3", by: "al", details },
});
const BOARD = { code: "PG2WB-J9NS3", board: "b8:27:eb:01:02:03", model: "Pi", from: "192.0.2.7" };
const TOKEN = { invitation: 3, invited: "token", expires: "2026-03-08T12:00:00.000Z" };
const DOWN = { via: "gate", end: "silent", reason: "the peer was silent for 10 s", lasted: 3_600_000 };

test("each kind says what happened", () => {
  const details: Record<(typeof JOURNAL_KINDS)[number], Details> = {
    "enrolment-requested": BOARD,
    "enrolment-denied": BOARD,
    "device-accepted": BOARD,
    "device-revoked": {},
    "device-restored": {},
    "device-removed": { code: "PG2WB-J9NS3" },
    "certificate-refused": { reason: "gate:22: it does not accept our key" },
    "tunnel-up": { via: "gate" },
    "tunnel-down": DOWN,
    "certificate-renewed": {},
    "node-renamed": { was: "vpn-010203" },
    "node-noted": { note: "in the cellar" },
    "node-board": { board: "b8:27:eb:01:02:04", was: "b8:27:eb:01:02:03" },
    "key-shared": { board: "b8:27:eb:01:02:03", other: "b8:27:eb:01:02:04" },
    order: { order: "reboot", what: "vm" },
    "invitation-added": TOKEN,
    "invitation-withdrawn": { ...TOKEN, invited: "board" },
    "rotation-began": { key: "ca" },
    "rotation-finished": { key: "ca" },
    "server-ready": { version: "0.1.0" },
    "server-stops": {},
  };
  expect(JOURNAL_KINDS.map((kind) => wordsOf(event(kind, details[kind]))).join("\n")).toMatchInlineSnapshot(`
    "a device asked for access: PG2WB-J9NS3, b8:27:eb:01:02:03, Pi, from 192.0.2.7
    denied: PG2WB-J9NS3, b8:27:eb:01:02:03, Pi
    accepted: PG2WB-J9NS3, b8:27:eb:01:02:03, Pi
    revoked
    restored
    removed: PG2WB-J9NS3
    its certificate was refused: gate:22: it does not accept our key
    up, through gate
    down after 1 h 0 min: the device was silent (the peer was silent for 10 s)
    certificate renewed
    renamed, was vpn-010203
    note: in the cellar
    its board is b8:27:eb:01:02:04, was b8:27:eb:01:02:03
    two devices use this key: MAC b8:27:eb:01:02:03 and MAC b8:27:eb:01:02:04
    reboot of the virtual machine
    token 3 added, until 2026-03-08 12:00 (UTC)
    expected board 3 withdrawn
    a new ca key stands beside the old one
    the new ca key took the place of the old one
    the server started, walt 0.1.0
    the server stops"
  `);
});

test("what is removed, what has no entrypoint, and what only a newer version knows", () => {
  expect(wordsOf(event("node-noted", { note: "" }))).toBe("note removed");
  expect(wordsOf(event("tunnel-up", { via: "" }))).toBe("up");
  expect(wordsOf(event("tunnel-down", { ...DOWN, end: "bored" }))).toContain("bored");
  expect(wordsOf(event("device-revoked", { reenrol: "ordered" }))).toContain("forget its key");
  expect(wordsOf(event("order", { order: "console", mode: "take" }))).toBe("console taken");
  const set = { order: "set", settings: "entrypoint=gate2", within: 60 };
  expect(wordsOf(event("order", set))).toBe("settings to be tried within 60 s: entrypoint=gate2");
  expect(wordsOf(event("order", { order: "paint" }))).toBe("order: paint");
  expect(wordsOf(event("order", { order: "__proto__" }))).toBe("order: __proto__");
  expect(wordsOf(event("node-painted"))).toBe("node-painted");
});
