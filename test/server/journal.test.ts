/** The journal on a real SQLite file: what is kept, in what order, and whose events make room. */

import { Database } from "bun:sqlite";
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JournalEvent, MAX_EVENTS } from "../../src/api/journal.ts";
import { Journal, SHARES } from "../../src/server/journal.ts";
import { Registry } from "../../src/server/registry.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { eventually } from "../lab/eventually.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-journal-"));
const open: { close(): void }[] = [];
afterAll(() => {
  for (const one of open) one.close();
  rmSync(dir, { recursive: true });
});

let count = 0;
let registry: Registry;
let now: Date;
beforeEach(() => {
  registry = new Registry(join(dir, `${count++}.sqlite`));
  open.push(registry);
  now = new Date("2026-03-01T12:00:00Z");
});

/** Another journal on the same file, with a clock and shares of a test. */
function journalOf(shares: Partial<typeof SHARES> | object = {}): Journal {
  const db = new Database(registry.path);
  open.push(db);
  return new Journal(db, () => now, { ...SHARES, ...shares });
}

let boards = 0;
function device() {
  const mac = `b8:27:eb:00:00:${(boards++ % 256).toString(16).padStart(2, "0")}`;
  const { publicKey } = generateKey("device");
  return registry.accept({ mac, model: "Pi", serialNumber: "7", publicKey }, "al", now);
}

const kinds = (events: readonly JournalEvent[]) => events.map(({ kind }) => kind);

describe("an order", () => {
  test("is written at once, with the operator, the node's name then, and the details", () => {
    const one = device();
    registry.journal.order(
      { kind: "node-renamed", device: { ...one, node: "lab-3" }, details: { was: one.node } },
      "al",
    );
    registry.journal.order({ kind: "server-ready", details: { version: "0.1", other: undefined } }, null);
    expect(registry.journal.events({})).toEqual([
      {
        ...{ id: 1, at: expect.stringMatching(/Z$/), kind: "node-renamed", node: "lab-3", by: "al" },
        details: { was: one.node },
      },
      {
        ...{ id: 2, at: expect.any(String), kind: "server-ready", node: null, by: null },
        details: { version: "0.1" },
      },
    ]);
  });

  test("is stored together with what was ordered, or not at all; followers are not told of what was not", async () => {
    const told: string[] = [];
    registry.journal.follow(0, ({ kind }) => told.push(kind));
    expect(() =>
      registry.atomically(() => {
        registry.journal.order({ kind: "device-revoked" }, "al");
        throw new Error("no");
      }),
    ).toThrow("no");
    registry.journal.order({ kind: "node-noted" }, "al");
    await eventually("it is told", () => told.length > 0);
    expect(told).toEqual(["node-noted"]);
    expect(kinds(registry.journal.events({}))).toEqual(["node-noted"]);
  });

  test("cannot be changed afterwards", () => {
    registry.journal.order({ kind: "device-revoked" }, "al");
    using db = new Database(registry.path);
    expect(() => db.run("UPDATE journal SET by = 'bob'")).toThrow("the journal is append-only");
  });

  test("has texts that are safe for a terminal, and no longer than they may be", () => {
    registry.journal.order({ kind: "node-noted", details: { note: `\u001b[2J${"x".repeat(1000)}` } }, "al");
    const [event] = registry.journal.events({});
    expect(event?.details["note"]).toMatch(/^\?\[2Jx+…$/);
    expect(String(event?.details["note"])).toHaveLength(300);
  });
});

describe("what devices do", () => {
  test("is written together a moment later, and whoever asks gets it at once", async () => {
    const told: string[] = [];
    const one = device();
    registry.journal.follow(0, ({ kind }) => told.push(kind));
    for (let i = 0; i < 1000; i++) registry.journal.ofDevice({ kind: "tunnel-up", device: one });
    using db = new Database(registry.path);
    const stored = () => db.query<{ n: number }, []>("SELECT count(*) AS n FROM journal").get()?.n;
    expect(stored()).toBe(0);
    await eventually("they are written and told", () => told.length === 1000);
    expect(stored()).toBe(1000);
    registry.journal.ofDevice({ kind: "tunnel-down", device: one });
    expect(kinds(registry.journal.events({ last: 1 }))).toEqual(["tunnel-down"]);
  });

  test("is written before the registry is closed", () => {
    registry.journal.ofDevice({ kind: "tunnel-up", device: device() });
    registry.close();
    open.splice(open.indexOf(registry), 1);
    const again = new Registry(registry.path);
    open.push(again);
    expect(kinds(again.journal.events({}))).toEqual(["tunnel-up"]);
  });

  test("that cannot be written is told, and what comes later is written", () => {
    const failures: unknown[] = [];
    const one = device();
    registry.journal.db.run(`CREATE TEMP TRIGGER broken BEFORE INSERT ON journal WHEN new.device = 999
      BEGIN SELECT raise(ABORT, 'the disk is broken'); END`);
    registry.journal.failed = (lost, error) => failures.push([lost, String(error)]);
    registry.journal.ofDevice({ kind: "tunnel-up", device: { id: 999, node: "nobody" } });
    registry.journal.ofDevice({ kind: "tunnel-up", device: one });
    registry.journal.flush();
    expect(failures).toEqual([[2, expect.stringContaining("the disk is broken")]]);
    registry.journal.ofDevice({ kind: "tunnel-down", device: one });
    expect(kinds(registry.journal.events({}))).toEqual(["tunnel-down"]);
  });

  test("waits in bounded memory while nothing can be written", () => {
    const failures: number[] = [];
    registry.journal.db.run(`CREATE TEMP TRIGGER broken BEFORE INSERT ON journal WHEN new.device = 999
      BEGIN SELECT raise(ABORT, 'the disk is broken'); END`);
    registry.journal.failed = (lost) => failures.push(lost);
    const nobody = { id: 999, node: "nobody" };
    for (let i = 0; i < 10_007; i++) registry.journal.ofDevice({ kind: "tunnel-up", device: nobody });
    registry.journal.flush();
    expect(failures).toEqual([10_007]);
  });
});

describe("what is kept", () => {
  test("one device that flaps pushes out nobody else's events, and the newest of its own are kept", () => {
    const journal = journalOf({ device: { all: 1000, each: 100 } });
    const [calm, busy] = [device(), device()];
    journal.ofDevice({ kind: "certificate-renewed", device: calm });
    journal.order({ kind: "node-noted", device: busy }, "al");
    for (let i = 0; i < 500; i++) journal.ofDevice({ kind: "tunnel-up", device: busy, details: { i } });
    const ofBusy = journal.events({ node: busy.node }).filter(({ kind }) => kind === "tunnel-up");
    expect(ofBusy.map(({ details }) => details["i"])).toEqual(Array.from({ length: 100 }, (_, i) => 400 + i));
    expect(kinds(journal.events({ node: calm.node }))).toEqual(["certificate-renewed"]);
    expect(kinds(journal.events({}).slice(0, 2))).toContain("node-noted");
  });

  test("when all together are too many, those who have most make room", () => {
    const journal = journalOf({ device: { all: 100, each: 100 } });
    const [few, many, most] = [device(), device(), device()];
    for (const [one, n] of [
      [few, 10],
      [many, 60],
      [most, 90],
    ] as const)
      for (let i = 0; i < n; i++) journal.ofDevice({ kind: "tunnel-up", device: one });
    journal.flush();
    const left = [few, many, most].map(({ node }) => journal.events({ node }).length);
    expect(left).toEqual([10, 42, 42]);
  });

  test("strangers have a share of their own, and so has each address", () => {
    const journal = journalOf({ stranger: { all: 50, each: 10 } });
    journal.ofStranger({ kind: "enrolment-requested", details: { code: "honest" } }, "192.0.2.1");
    for (let i = 0; i < 300; i++)
      journal.ofStranger(
        { kind: "enrolment-requested", details: { code: "flood" } },
        `192.0.2.${2 + (i % 3)}`,
      );
    const codes = journal.events({}).map(({ details }) => details["code"]);
    expect(codes.filter((code) => code === "honest")).toHaveLength(1);
    expect(codes).toHaveLength(31);
  });

  test("nothing that is older than 400 days", () => {
    const first = journalOf();
    first.order({ kind: "node-noted" }, "al");
    now = new Date(now.getTime() + 399 * 86_400_000);
    first.order({ kind: "device-revoked" }, "al");
    expect(kinds(first.events({}))).toEqual(["node-noted", "device-revoked"]);
    now = new Date(now.getTime() + 2 * 86_400_000);
    expect(kinds(first.events({}))).toEqual(["device-revoked"]);
  });

  test("100 000 events in all", () => {
    expect(Object.values(SHARES).reduce((sum, { all }) => sum + all, 0)).toBe(100_000);
  });
});

describe("asking", () => {
  test("for the last ones, for those after a number, and for those since a time", () => {
    const journal = journalOf();
    const [one, two] = ["2026-03-01T12:00:00.000Z", "2026-03-02T12:00:00.000Z"];
    for (const at of [one, one, two]) {
      now = new Date(at);
      journal.order({ kind: "node-noted" }, "al");
    }
    const ids = (events: JournalEvent[]) => events.map(({ id }) => id);
    expect(ids(journal.events({ last: 2 }))).toEqual([2, 3]);
    expect(ids(journal.events({ after: 1 }))).toEqual([2, 3]);
    expect(ids(journal.events({ since: two }))).toEqual([3]);
  });

  test("gives a page at most, the oldest first", () => {
    for (let i = 0; i < MAX_EVENTS + 5; i++) registry.journal.order({ kind: "node-noted" }, "al");
    const page = registry.journal.events({});
    expect([page.length, page[0]?.id]).toEqual([MAX_EVENTS, 1]);
    expect(registry.journal.events({ after: MAX_EVENTS })).toHaveLength(5);
    expect(registry.journal.events({ last: 1e9 })).toHaveLength(MAX_EVENTS);
  });

  test("for a node finds it by the name it has and by its default name, also after it was renamed or revoked", () => {
    const [one, other] = [device(), device()];
    registry.journal.ofDevice({ kind: "tunnel-up", device: one });
    registry.journal.ofDevice({ kind: "tunnel-up", device: other });
    registry.journal.flush();
    registry.rename(one, "lab-3");
    registry.revoke(one, now);
    for (const node of ["lab-3", one.defaultName])
      expect(registry.journal.events({ node })).toMatchObject([{ kind: "tunnel-up", node: one.node }]);
    expect(registry.journal.events({ node: "nobody" })).toEqual([]);
  });

  test("to follow gives what is there after a number, then what comes, in order and once, until it ends", async () => {
    const told: number[] = [];
    for (let i = 0; i < 3; i++) registry.journal.order({ kind: "node-noted" }, "al");
    const end = registry.journal.follow(1, ({ id }) => told.push(id));
    expect(told).toEqual([2, 3]);
    registry.journal.ofDevice({ kind: "tunnel-up", device: device() });
    registry.journal.flush();
    registry.journal.order({ kind: "node-noted" }, "al");
    await eventually("all are told", () => told.length === 4);
    expect(told).toEqual([2, 3, 4, 5]);
    end();
    registry.journal.order({ kind: "node-noted" }, "al");
    registry.journal.flush();
    expect(told).toEqual([2, 3, 4, 5]);
  });
});
