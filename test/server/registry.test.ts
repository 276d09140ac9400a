/** The registry on a real SQLite file. */

import { Database } from "bun:sqlite";
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AddressRange } from "../../src/address-range.ts";
import type { EnrolmentRequest } from "../../src/enrolment/messages.ts";
import { MIGRATIONS } from "../../src/server/migrations.ts";
import { Registry } from "../../src/server/registry.ts";
import { generateKey, parsePublicKey } from "../../src/ssh/keys/ed25519.ts";

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
    expect(() => new Registry(path)).toThrow(`the registry ${path} is damaged: `);
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
      mac: expect.stringMatching(/^d6:..:..:0a:0b:0c$/),
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
      expect(node.mac.slice(9)).toBe(node.node.slice(4).replace(/(..)(..)(..)/, "$1:$2:$3"));
      expect(node.mac.slice(0, 8)).toBe(nodes[0]?.mac.slice(0, 8) ?? "");
    }
  });

  test("the beginning of nodes' MAC addresses is each server's own, and stays", () => {
    const one = registry();
    const mac = one.accept(request(), "alice", NOW).mac;
    one.close();
    open.delete(one);
    const again = registry().accept(request("b8:27:eb:0a:0b:0c"), "alice", NOW).mac;
    expect(again.slice(0, 8)).toBe(mac.slice(0, 8));
    const others = Array.from({ length: 5 }, (_, n) => {
      path = join(dir, `${count++}-other-${n}.sqlite`);
      return registry().accept(request(), "alice", NOW).mac;
    });
    expect(new Set([mac, ...others]).size).toBeGreaterThan(1);
  });

  test("a MAC address that was given by an older version is kept, also when the board enrols afresh", () => {
    const old = new Database(path, { create: true });
    for (const sql of MIGRATIONS.slice(0, 1)) old.run(sql);
    old.run("PRAGMA user_version = 1");
    const asked = request();
    old
      .query(
        "INSERT INTO devices VALUES (1, 'vpn-010203', '52:54:00:01:02:03', ?, 'Pi', '7', ?, ?, 'al', NULL)",
      )
      .run(asked.mac, "ssh-ed25519 AAAA", NOW.toISOString());
    old.close();
    const all = registry();
    const [device] = all.list();
    if (device === undefined) throw new Error("it is lost");
    expect(device).toMatchObject({ mac: "52:54:00:01:02:03", address: null });
    all.revoke(device, NOW);
    expect(all.accept(request(), "alice", NOW)).toMatchObject({ node: "vpn-010203", mac: device.mac });
    // Another board with the same last bytes does not get it.
    all.revoke(all.active()[0] ?? device, NOW);
    expect(all.accept(request("dc:a6:32:01:02:03"), "alice", NOW).mac).not.toBe(device.mac);
  });

  describe("addresses", () => {
    const range = AddressRange.beside("10.0.0.1/29"); // 10.0.0.2 to 10.0.0.6
    const board = (n: number) => request(`b8:27:eb:00:00:0${n}`);
    const addresses = (all: Registry) => all.list().map((one) => one.address);

    test("each node has one, and keeps it", () => {
      const all = registry();
      for (const n of [1, 2]) all.accept(board(n), "alice", NOW);
      expect(all.assignAddresses(range, new Map())).toEqual([]);
      all.accept(board(3), "alice", NOW);
      all.assignAddresses(range, new Map());
      expect(addresses(all)).toEqual(["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    });

    test("the one that DHCP gave a node before, and none that it gave to others", () => {
      const all = registry();
      const [one] = [all.accept(board(1), "alice", NOW), all.accept(board(2), "alice", NOW)];
      const leases = new Map([
        [one.mac, "10.0.0.6"],
        ["52:54:00:99:99:99", "10.0.0.2"],
      ]);
      all.assignAddresses(range, leases);
      expect(addresses(all)).toEqual(["10.0.0.6", "10.0.0.3"]);
    });

    test("another one where the network has changed", () => {
      const all = registry();
      all.accept(board(1), "alice", NOW);
      all.assignAddresses(range, new Map());
      all.assignAddresses(AddressRange.beside("10.1.0.1/29"), new Map());
      expect(addresses(all)).toEqual(["10.1.0.2"]);
    });

    test("a board that enrols afresh has the one that it had; others get those of revoked nodes last", () => {
      const all = registry();
      for (const n of [1, 2, 3, 4, 5]) all.accept(board(n), "alice", NOW);
      all.assignAddresses(range, new Map());
      expect(all.accept(board(6), "alice", NOW)).toMatchObject({ address: null });
      expect(all.assignAddresses(range, new Map())).toEqual(["vpn-000006"]);
      for (const node of ["vpn-000002", "vpn-000003"]) {
        const device = all.byNode(node);
        if (device !== undefined) all.revoke(device, NOW);
      }
      all.accept(board(3), "alice", NOW);
      expect(all.assignAddresses(range, new Map())).toEqual([]);
      const given = (node: string) => all.byNode(node)?.address;
      expect([given("vpn-000003"), given("vpn-000006")]).toEqual(["10.0.0.4", "10.0.0.3"]);
    });
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

describe("names", () => {
  const accept = (all: Registry, mac: string, name?: string) => all.accept(request(mac), "alice", NOW, name);

  test("that people give take the place of the default name; addresses and the default name stay", () => {
    const all = registry();
    const before = accept(all, "b8:27:eb:01:02:03");
    all.rename(before, "lab-3");
    all.setNote(before, "in the cellar");
    expect(all.byNode("vpn-010203")).toBeUndefined();
    expect(all.byNode("lab-3")).toEqual({ ...before, node: "lab-3", note: "in the cellar" });
    expect(all.nameOf(before)).toBe("lab-3");
    all.rename(before, "vpn-010203");
    expect(all.byNode("vpn-010203")).toMatchObject({ defaultName: "vpn-010203" });
  });

  test("are given when a device is accepted, too", () => {
    const all = registry();
    expect(accept(all, "b8:27:eb:01:02:03", "lab-3")).toMatchObject({
      ...{ node: "lab-3", defaultName: "vpn-010203", mac: expect.stringMatching(/:01:02:03$/) },
    });
    expect(() => accept(all, "b8:27:eb:01:02:04", "lab-3")).toThrow("lab-3 is taken: another node has it");
    expect(all.list()).toHaveLength(1);
  });

  test("are no other node's, neither its name nor its default name, nor one that the server may give", () => {
    const all = registry();
    const [one, two] = [accept(all, "b8:27:eb:01:02:03", "lab-3"), accept(all, "b8:27:eb:01:02:04")];
    for (const [name, why] of [
      ["lab-3", "another node has it"],
      ["vpn-010203", "it is the default name of lab-3"],
      ["vpn-ffffff", "the server itself gives names of this form"],
    ] as const)
      expect(() => all.rename(two, name)).toThrow(`the name ${name} is taken: ${why}`);
    all.rename(one, "vpn-gate");
    all.rename(two, "lab-3");
    expect(all.list().map(({ node }) => node)).toEqual(["lab-3", "vpn-gate"]);
  });

  test("another board with the same last bytes does not get the default name of one that was renamed", () => {
    const all = registry();
    accept(all, "b8:27:eb:01:02:03", "lab-3");
    const other = accept(all, "dc:a6:32:01:02:03");
    expect(other.node).toMatch(/^vpn-[0-9a-f]{6}$/);
    expect(other.node).not.toBe("vpn-010203");
  });

  test("a board that enrols afresh keeps its name and its note, unless another node has the name by then", () => {
    const all = registry();
    const again = (name?: string) => {
      const [device] = all.byBoardMac("b8:27:eb:01:02:03");
      if (device === undefined) throw new Error("it is lost");
      all.revoke(device, NOW);
      return accept(all, "b8:27:eb:01:02:03", name);
    };
    const first = accept(all, "b8:27:eb:01:02:03", "lab-3");
    all.setNote(first, "in the cellar");
    const kept = { defaultName: "vpn-010203", note: "in the cellar", mac: first.mac };
    expect(again()).toMatchObject({ node: "lab-3", ...kept });
    expect(again("lab-4")).toMatchObject({ node: "lab-4", ...kept });
    const [device] = all.byBoardMac("b8:27:eb:01:02:03");
    if (device !== undefined) all.revoke(device, NOW);
    accept(all, "b8:27:eb:01:02:05", "lab-4");
    expect(accept(all, "b8:27:eb:01:02:03")).toMatchObject({ node: "vpn-010203", ...kept });
  });

  test("of an older registry are the default names", () => {
    const old = new Database(path, { create: true });
    for (const sql of MIGRATIONS.slice(0, 4)) old.run(sql);
    old.run("PRAGMA user_version = 4");
    old
      .query(
        `INSERT INTO devices (node, mac, board_mac, model, serial_number, public_key, accepted_at, accepted_by)
         VALUES ('vpn-010203', 'd6:00:00:01:02:03', 'b8:27:eb:01:02:03', 'Pi', '7', 'ssh-ed25519 AAAA', ?, 'al')`,
      )
      .run(NOW.toISOString());
    old.close();
    expect(registry().list()).toMatchObject([{ node: "vpn-010203", defaultName: "vpn-010203", note: "" }]);
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

describe("certificates of one device", () => {
  const days = (n: number): Date => new Date(NOW.getTime() + n * 86_400_000);

  test("pass the proxies until the last one expires, although a newer one expires before", () => {
    const all = registry();
    const device = all.accept(request(), "alice", NOW);
    all.issue(device, NOW, days(30));
    all.issue(device, NOW, days(1)); // the validity was made shorter meanwhile
    all.revoke(device, NOW);
    expect(all.list()).toMatchObject([{ certificateSerial: 2, certificateExpires: days(30).toISOString() }]);
    expect(all.revokedWithCertificate(days(7))).toHaveLength(1);
    expect(all.revokedWithCertificate(days(30))).toEqual([]);
  });

  test("take no more room the more there were, and others keep theirs", () => {
    const all = registry();
    const [one, two] = [request(), request("b8:27:eb:01:02:04")].map((asked) => all.accept(asked, "a", NOW));
    if (one === undefined || two === undefined) throw new Error("no devices");
    all.issue(two, NOW, days(7));
    for (let i = 0; i < 20; i++) all.issue(one, NOW, days(7 + i / 1000));
    expect(value("SELECT count(*) FROM certificates")).toBe(2);
    expect(value("SELECT max(serial) FROM certificates")).toBe(21);
    // The server's clock goes back again and again.
    for (let i = 0; i < 20; i++) all.issue(one, NOW, days(7 - i / 1000));
    expect(value("SELECT count(*) FROM certificates")).toBe(3);
    expect(all.byKey(parsePublicKey(one.publicKey, "one"))).toMatchObject({
      certificateSerial: 41,
      certificateExpires: days(7 + 19 / 1000).toISOString(),
    });
  });
});
