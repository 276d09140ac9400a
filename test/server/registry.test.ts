/** The registry on a real SQLite file. */

import { Database } from "bun:sqlite";
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EnrolmentRequest } from "../../src/enrolment/messages.ts";
import { MIGRATIONS } from "../../src/server/migrations.ts";
import { Registry } from "../../src/server/registry.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-registry-"));
const open = new Set<Registry>();
afterAll(() => {
  for (const one of open) one.close();
  rmSync(dir, { recursive: true, force: true });
});

let count = 0;
let path: string;
beforeEach(() => {
  path = join(dir, `${count++}.sqlite`);
});

function registry(): Registry {
  const made = new Registry(path);
  open.add(made);
  return made;
}

const NOW = new Date("2026-03-01T12:00:00Z");
const LATER = new Date("2026-03-08T12:00:00Z");

function request(mac = "b8:27:eb:01:02:03"): EnrolmentRequest {
  return { mac, model: "Pi", serialNumber: "7", publicKey: generateKey("a comment").publicKey };
}

/** A scalar out of the file, by another connection. */
function value(sql: string): unknown {
  using db = new Database(path, { readonly: true });
  return Object.values(db.query<Record<string, unknown>, []>(sql).get() ?? {})[0];
}

describe("the file", () => {
  test("is made from nothing, in its newest version, in WAL mode, readable by its owner only", () => {
    const umask = process.umask(0);
    const made = registry();
    made.accept(request(), "alice", NOW);
    expect(process.umask(umask)).toBe(0);
    expect(value("PRAGMA user_version")).toBe(MIGRATIONS.length);
    expect(value("PRAGMA journal_mode")).toBe("wal");
    const files = readdirSync(dir).filter((name) => path.endsWith(name.replace(/-(wal|shm)$/, "")));
    expect(files.length).toBe(3);
    for (const name of files) expect([name, statSync(join(dir, name)).mode & 0o777]).toEqual([name, 0o600]);
  });

  test("keeps what it was told", () => {
    const asked = request();
    const first = registry();
    const device = first.accept(asked, "alice", NOW);
    first.issue(device, NOW, LATER);
    first.close();
    open.delete(first);
    expect(registry().byKey(asked.publicKey)).toEqual({
      ...device,
      certificateSerial: 1,
      certificateExpires: LATER.toISOString(),
    });
  });

  test("of each older version is brought to the newest, with what is in it", () => {
    for (let version = 0; version <= MIGRATIONS.length; version++) {
      path = join(dir, `${count++}.sqlite`);
      const db = new Database(path, { create: true });
      for (const sql of MIGRATIONS.slice(0, version)) db.run(sql);
      db.run(`PRAGMA user_version = ${version}`);
      db.close();
      expect(registry().list()).toEqual([]);
      expect(value("PRAGMA user_version")).toBe(MIGRATIONS.length);
    }
  });

  test("of a newer walt is refused and not touched", () => {
    registry();
    const db = new Database(path);
    db.run(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    db.close();
    expect(() => new Registry(path)).toThrow(
      `${path} has version ${MIGRATIONS.length + 1}; this walt knows versions up to ${MIGRATIONS.length}`,
    );
    expect(value("PRAGMA user_version")).toBe(MIGRATIONS.length + 1);
  });

  test("that is something else, a folder, or nowhere, is an error that names it", () => {
    writeFileSync(path, "this is no database, and is longer than a header of SQLite would be ".repeat(20));
    expect(() => new Registry(path)).toThrow(`cannot open the registry ${path}: `);
    expect(() => new Registry(dir)).toThrow(`cannot open the registry ${dir}: `);
    expect(() => new Registry(join(dir, "no/such"))).toThrow(`cannot open the registry ${dir}/no/such: `);
  });
});

describe("devices", () => {
  test("a node is named for the last three bytes of the board's MAC, and has them in its own", () => {
    const asked = request("b8:27:eb:0a:0b:0c");
    const device = registry().accept(asked, "alice", NOW);
    expect(device).toMatchObject({
      node: "vpn-0a0b0c",
      mac: "52:54:00:0a:0b:0c",
      boardMac: "b8:27:eb:0a:0b:0c",
      model: "Pi",
      serialNumber: "7",
      acceptedAt: NOW.toISOString(),
      acceptedBy: "alice",
      revokedAt: null,
      certificateSerial: 0,
    });
    expect(device.publicKey).toMatch(/^ssh-ed25519 \S+$/);
  });

  test("another board with the same last bytes is another node, with another name and MAC", () => {
    const all = registry();
    const nodes = ["b8:27:eb:01:02:03", "dc:a6:32:01:02:03", "e4:5f:01:01:02:03"].map((mac) =>
      all.accept(request(mac), "alice", NOW),
    );
    expect(new Set(nodes.map((n) => n.node)).size).toBe(3);
    expect(new Set(nodes.map((n) => n.mac)).size).toBe(3);
    for (const node of nodes) {
      expect(node.node).toMatch(/^vpn-[0-9a-f]{6}$/);
      expect(node.mac).toBe(`52:54:00:${node.node.slice(4).replace(/(..)(..)(..)/, "$1:$2:$3")}`);
    }
  });

  test("are found by key, node and board", () => {
    const all = registry();
    const [one, two] = [request("b8:27:eb:01:02:03"), request("b8:27:eb:0f:0f:0f")];
    const first = all.accept(one, "alice", NOW);
    expect(all.byKey(two.publicKey)).toBeUndefined();
    const second = all.accept(two, "bob", NOW);
    expect(all.byKey(one.publicKey)).toEqual(first);
    expect(all.byNode("vpn-0f0f0f")).toEqual(second);
    expect(all.byNode("vpn-000000")).toBeUndefined();
    expect(all.byBoardMac("b8:27:eb:01:02:03")).toEqual([first]);
    expect(all.list().map((d) => d.node)).toEqual(["vpn-010203", "vpn-0f0f0f"]);
  });

  test("the same key, with whatever comment, is not registered twice", () => {
    const all = registry();
    const asked = request();
    all.accept(asked, "alice", NOW);
    const again = { ...asked, publicKey: { blob: asked.publicKey.blob, comment: "another" } };
    expect(all.byKey(again.publicKey)?.node).toBe("vpn-010203");
    expect(() => all.accept(again, "alice", NOW)).toThrow();
    expect(all.list()).toHaveLength(1);
  });

  test("a revoked board may enrol afresh: same node, another device; the old key stays revoked", () => {
    const all = registry();
    const [old, fresh] = [request(), request()];
    const before = all.accept(old, "alice", NOW);
    all.revoke(before, LATER);
    expect(all.byKey(old.publicKey)?.revokedAt).toBe(LATER.toISOString());
    expect(all.byNode(before.node)).toBeUndefined();
    expect(all.byBoardMac(before.boardMac)).toEqual([]);
    const after = all.accept(fresh, "bob", LATER);
    expect([after.node, after.mac]).toEqual([before.node, before.mac]);
    expect(after.id).not.toBe(before.id);
    expect(all.byNode(after.node)).toEqual(after);
    expect(all.byKey(old.publicKey)?.revokedAt).not.toBeNull();
    expect(all.list()).toHaveLength(2);
  });
});

describe("serials", () => {
  test("count up and are never used twice, over devices, restarts and deletions", () => {
    const first = registry();
    const [one, two] = [
      first.accept(request(), "a", NOW),
      first.accept(request("b8:27:eb:0f:0f:0f"), "a", NOW),
    ];
    expect([one, two, one].map((device) => first.issue(device, NOW, LATER))).toEqual([1n, 2n, 3n]);
    expect(first.list().map((d) => d.certificateSerial)).toEqual([3, 2]);
    first.close();
    open.delete(first);
    const db = new Database(path);
    db.run("DELETE FROM certificates");
    db.close();
    expect(registry().issue(one, NOW, LATER)).toBe(4n);
  });

  test("belong to a device that exists", () => {
    const all = registry();
    const device = all.accept(request(), "a", NOW);
    expect(() => all.issue({ ...device, id: 99 }, NOW, LATER)).toThrow(/FOREIGN KEY/);
  });
});
