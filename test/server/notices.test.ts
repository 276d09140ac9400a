/** What an operator is told although he does not look: each once, also over a restart of the server. */

import { beforeEach, expect, test } from "bun:test";
import type { Notice } from "../../src/api/notice.ts";
import { type DiskSpace, Notices } from "../../src/server/notices.ts";
import type { Seen } from "../../src/server/registry.ts";

const NODE = { id: 1, node: "lab-1" };
const MINUTE = 60_000;
const GB = 1e9;
let now: number;
let up: boolean;
let seen: Seen | undefined;
let nodes: (typeof NODE)[];
let disk: DiskSpace;
let board: DiskSpace | undefined;
let told: Notice[];
beforeEach(() => {
  now = Date.parse("2026-03-01T12:00:00Z");
  [up, seen, nodes, told, board] = [true, undefined, [NODE], [], undefined];
  disk = { size: 100 * GB, free: 50 * GB };
});

function notices(): Notices {
  return new Notices({
    nodes: () => nodes,
    isUp: () => up,
    presence: { of: () => seen },
    diskOf: () => board,
    serverDisk: () => disk,
    down: 5 * MINUTE,
    tell: (notice) => void told.push(notice),
    now: () => now,
  });
}

function goesDown(end: Seen["end"] = "silent", reason = "silent for 10 s"): void {
  const at = new Date(now).toISOString();
  [up, seen] = [false, { seenAt: at, endedAt: at, end, reason }];
}

/** Look once a minute. */
function pass(all: Notices, minutes: number): void {
  for (let i = 0; i < minutes; i++) {
    now += MINUTE;
    all.look();
  }
}

const events = (): string[] => told.map(({ event }) => event);

test("a node that is down for five minutes, once; and that it is up again. A short outage is nothing", () => {
  const all = notices();
  goesDown();
  pass(all, 4);
  up = true;
  pass(all, 1);
  expect(told).toEqual([]);
  goesDown();
  pass(all, 30);
  expect(told).toMatchObject([
    { event: "node-down", node: "lab-1", text: "lab-1 is down for 5 min 0 s: silent for 10 s" },
  ]);
  up = true;
  pass(all, 3);
  expect(told.slice(1)).toMatchObject([{ event: "node-up", text: "lab-1 is up again" }]);
  all.stop();
});

test("a node that never was up, and one that was revoked, is not down", () => {
  const all = notices();
  up = false;
  pass(all, 30);
  goesDown();
  pass(all, 3);
  nodes = [];
  pass(all, 30);
  expect(told).toEqual([]);
  all.stop();
});

test("after a restart nothing is told twice; nodes have time to come back; that they are up again is told", () => {
  goesDown();
  now += 60 * MINUTE; // the run before has told it
  const all = notices();
  pass(all, 30);
  expect(events()).toEqual([]);
  up = true;
  pass(all, 1);
  expect(events()).toEqual(["node-up"]);
  all.stop();

  // One whose tunnel ended with the server, an hour ago.
  goesDown("stopped", "the server stops");
  now += 60 * MINUTE;
  const next = notices();
  pass(next, 4);
  expect(events()).toEqual(["node-up"]);
  pass(next, 1);
  expect(events()).toEqual(["node-up", "node-down"]);
  next.stop();
});

test("a request that waits, and a certificate that was refused", () => {
  const all = notices();
  const event = { id: 1, at: new Date(now).toISOString(), by: null };
  all.event({
    ...event,
    kind: "enrolment-requested",
    node: null,
    details: { code: "PG2WB-J9NS3", model: "Pi" },
  });
  all.event({ ...event, kind: "certificate-refused", node: "lab-1", details: { reason: "gate: no" } });
  all.event({ ...event, kind: "tunnel-up", node: "lab-1", details: {} });
  expect(told).toMatchObject([
    { event: "request-waits", node: null, text: "a device asks for access: PG2WB-J9NS3, Pi" },
    {
      event: "certificate-refused",
      node: "lab-1",
      text: "a proxy refused the certificate of lab-1: gate: no",
    },
  ]);
  all.stop();
});

test("a disk that is nearly full, of the server and of a board, once until it has room again", () => {
  const all = notices();
  disk = { size: 100 * GB, free: 0.5 * GB };
  board = { size: 0.2 * GB, free: 0.01 * GB };
  pass(all, 3);
  expect(told.map(({ event, node }) => [event, node])).toEqual([
    ["disk-low", "lab-1"],
    ["disk-low", null],
  ]);
  disk = { size: 100 * GB, free: 1.2 * GB }; // not enough yet
  pass(all, 2);
  disk = { size: 100 * GB, free: 9 * GB };
  board = { size: null, free: null };
  pass(all, 2);
  expect(events().slice(2)).toEqual(["disk-enough"]);
  all.stop();
});
