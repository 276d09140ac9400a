/** What each node's tunnel was like, with a clock and tunnels of the test's own, and a real database. */

import { Database } from "bun:sqlite";
import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatLine, type Log } from "../../src/log.ts";
import { Histories } from "../../src/server/history.ts";
import type { Device } from "../../src/server/registry.ts";
import type { Totals, TunnelInfo } from "../../src/server/tunnels.ts";
import { TRAFFIC } from "../api/messages.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-history-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const START = Date.parse("2026-03-01T12:00:00Z");
const MONTH = 30 * 86_400;

const note = (message: string, fields?: Parameters<Log["info"]>[1]): void => {
  logged.push(formatLine("", message, fields));
};
const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };

let path: string;
let count = 0;
let now = START;
let nodes: Pick<Device, "id" | "node">[] = [];
let logged: string[] = [];
const info = new Map<number, TunnelInfo>();
const totals = new Map<number, Totals>();
beforeEach(() => {
  path = join(dir, `${count++}.sqlite`);
  now = START;
  nodes = [{ id: 1, node: "lab-1" }];
  logged = [];
  info.clear();
  totals.clear();
});

function histories(): Histories {
  const tunnels = {
    info: ({ id }: Device) => info.get(id),
    totals: ({ id }: Device) => totals.get(id) ?? ({ bytesIn: 0, bytesOut: 0 } as Totals),
  };
  return new Histories(
    path,
    () => nodes,
    tunnels,
    log,
    () => now,
  );
}

function tunnel(state: "up" | "down", since: number, rtt = 20): TunnelInfo {
  const stats = state === "up" ? { ...TRAFFIC, rtt, pings: 9, loss: 0.25 } : undefined;
  return { ...{ state, since: new Date(since), via: "gate:22", framing: "messages", mtu: 1500 }, stats };
}

/** Take samples for so many seconds. */
function run(all: Histories, seconds: number, each: () => void = () => {}): void {
  for (const end = now + 1000 * seconds; now < end; now += 10_000) {
    each();
    all.sample();
  }
  now -= 10_000; // the time of the last sample
}

test("the last hour: state, round trip, loss and rates, and null where nothing is known", () => {
  const all = histories();
  info.set(1, tunnel("up", START - 3_600_000));
  let bytesIn = 0;
  run(all, 30, () => {
    bytesIn += 5000;
    totals.set(1, { bytesIn, bytesOut: 0 } as Totals);
  });
  now += 10_000;
  info.set(1, tunnel("down", now - 4000));
  all.sample();
  const hour = all.hour({ id: 1, node: "lab-1" });
  expect(hour.step).toBe(10);
  expect(hour.up.length).toBe(360);
  expect(hour.up.slice(-5)).toEqual([null, 1, 1, 1, 0.6]);
  expect(hour.rtt.slice(-5)).toEqual([null, 20, 20, 20, null]);
  expect(hour.loss.slice(-5)).toEqual([null, 0.25, 0.25, 0.25, null]);
  expect(hour.receive.slice(-5)).toEqual([null, null, 500, 500, 0]);
  expect(hour.transmit.slice(-5)).toEqual([null, null, 0, 0, 0]);
  expect(Date.parse(hour.from) + 359 * 10_000).toBe(now);
  all.stop();
});

test("a tunnel that was away for a moment is seen, although it is up at each sample", () => {
  const all = histories();
  info.set(1, tunnel("up", START - 60_000));
  run(all, 10);
  now += 10_000;
  info.set(1, tunnel("up", now - 2500));
  all.sample();
  expect(all.hour({ id: 1, node: "lab-1" }).up.slice(-2)).toEqual([1, 0.25]);
  all.stop();
});

test("a ring has an hour and no more; a clock that was set back begins it anew", () => {
  const all = histories();
  info.set(1, tunnel("up", 0));
  run(all, 7200);
  expect(all.hour({ id: 1, node: "lab-1" }).up).toEqual(Array<number>(360).fill(1));
  now -= 86_400_000;
  all.sample();
  const { up } = all.hour({ id: 1, node: "lab-1" });
  expect(up.at(-1)).toBe(1);
  expect(up.slice(0, -1)).toEqual(Array<null>(359).fill(null));
  all.stop();
});

test("the month has means of ten minutes, and the minutes that have not been written yet", () => {
  const all = histories();
  info.set(1, tunnel("up", 0, 10));
  run(all, 600, () => {
    if (now === START + 300_000) info.set(1, tunnel("up", 0, 30));
  });
  now += 10_000;
  info.set(1, tunnel("down", 0));
  all.sample();
  const month = all.month({ id: 1, node: "lab-1" });
  expect(month.step).toBe(600);
  expect(month.up.length).toBe(4320);
  expect(month.up.slice(-3)).toEqual([null, 1, 0]);
  expect(month.rtt.slice(-3)).toEqual([null, 20, null]);
  all.stop();
});

test("both survive a restart, with a gap for the time between", () => {
  const first = histories();
  info.set(1, tunnel("up", 0));
  run(first, 900);
  first.stop();
  now += 60_000;
  const second = histories();
  second.sample();
  const hour = second.hour({ id: 1, node: "lab-1" });
  expect(hour.up.filter((one) => one === 1).length).toBe(91);
  expect(hour.up.slice(-8)).toEqual([1, 1, null, null, null, null, null, 1]);
  expect(second.month({ id: 1, node: "lab-1" }).up.slice(-3)).toEqual([null, 1, 1]);
  second.stop();
});

test("all nodes, a sample for each minute; one that is gone takes no memory", () => {
  nodes = [
    { id: 1, node: "lab-1" },
    { id: 2, node: "lab-2" },
  ];
  const all = histories();
  info.set(1, tunnel("up", 0));
  run(all, 120);
  const overview = nodes.map((one) => all.overview(one));
  expect(overview.map(({ node, step }) => [node, step])).toEqual([
    ["lab-1", 60],
    ["lab-2", 60],
  ]);
  expect(overview.map(({ up }) => up.slice(-3))).toEqual([
    [null, 1, 1],
    [null, 0, 0],
  ]);
  nodes = [{ id: 1, node: "lab-1" }];
  now += 10_000;
  all.sample();
  expect(all.overview({ id: 2, node: "lab-2" }).up).toEqual(Array<null>(60).fill(null));
  all.stop();
});

test("what is older than 30 days is deleted, and the file is its owner's alone", () => {
  const all = histories();
  info.set(1, tunnel("up", 0));
  run(all, 1200);
  now += 1000 * MONTH;
  run(all, 1200);
  all.stop();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  using db = new Database(path, { readonly: true });
  const rows = db.query<{ n: number; first: number }, []>(
    "SELECT count(*) AS n, min(slot) AS first FROM samples",
  );
  expect(rows.get()?.n).toBe(3);
  expect((rows.get()?.first ?? 0) * 600_000).toBeGreaterThan(START + 86_400_000);
});

test("a damaged file is made anew; one that cannot be opened leaves the last hour", () => {
  writeFileSync(path, "this is no database, but a text that is long enough to be taken for a damaged one");
  const all = histories();
  info.set(1, tunnel("up", 0));
  run(all, 20);
  all.stop();
  expect(logged.join("\n")).toContain("event=history-failed");
  expect(readFileSync(path, "latin1").slice(0, 15)).toBe("SQLite format 3");
  path = join(dir, "not-there", "history.sqlite");
  const without = histories();
  now += 10_000;
  without.sample();
  expect(without.hour({ id: 1, node: "lab-1" }).up.at(-1)).toBe(1);
  expect(without.month({ id: 1, node: "lab-1" }).up.at(-1)).toBe(1);
  without.stop();
});
