/** The registry's database is damaged, locked, full or another user's: what is said, what is kept, and the way back. */

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { CopyKeeper } from "../../src/server/copy-keeper.ts";
import { Registry, RegistryLocked } from "../../src/server/registry.ts";
import { copiesOf, restoreCopy, takeCopy } from "../../src/server/registry-copies.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { explained } from "../../src/system-error.ts";
import { eventually } from "../lab/eventually.ts";

const NOW = new Date("2026-03-01T12:00:00Z");
let state: string;
let path: string;
const open: Registry[] = [];
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), "walt-places-"));
  path = join(state, "registry.sqlite");
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  rmSync(state, { recursive: true });
});

function registry(): Registry {
  const one = new Registry(path);
  open.push(one);
  return one;
}

function accept(to: Registry, mac: string): void {
  const request = { mac, model: "Pi", serialNumber: "7", publicKey: generateKey("").publicKey };
  to.accept(request, "alice", NOW);
}

/** Close a registry with its log written back, and overwrite pages of its tables. */
function damage(one: Registry): void {
  open.splice(open.indexOf(one), 1);
  one.close();
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(0xa5, 4096 * 2));
}

/** What was thrown. */
function thrown(work: () => unknown): WaltError {
  try {
    work();
  } catch (error) {
    if (error instanceof WaltError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("a damaged registry", () => {
  test("is refused with the command that restores its copy, and restored", () => {
    const one = registry();
    accept(one, "b8:27:eb:01:02:03");
    one.issue(one.list()[0] ?? never(), NOW, NOW);
    takeCopy(state, (file) => one.copyTo(file), NOW);
    accept(one, "b8:27:eb:01:02:04");
    damage(one);
    const refused = thrown(() => new Registry(path));
    expect(refused.message).toStartWith(`the registry ${path} is damaged`);
    expect(refused.hint).toContain("with 1 devices");
    expect(refused.hint).toContain("walt server restore");
    const restored = restoreCopy(state, NOW);
    expect(restored.devices).toBe(1);
    expect(readdirSync(state)).toContain("registry.sqlite.before-2026-03-01T120000.000Z");
    const back = registry();
    expect(back.list().map(({ node }) => node)).toEqual(["vpn-010203"]);
    // No serial number of a certificate is used twice.
    expect(back.issue(back.list()[0] ?? never(), NOW, NOW)).toBeGreaterThan(1000n);
  });

  test("without a copy says so, and nothing is changed", () => {
    const one = registry();
    accept(one, "b8:27:eb:01:02:03");
    damage(one);
    expect(thrown(() => new Registry(path)).hint).toContain("There is no copy");
    const before = readdirSync(state);
    expect(thrown(() => restoreCopy(state, NOW)).message).toContain("there is none");
    expect(readdirSync(state)).toEqual(before);
  });

  test("a damaged copy is passed over", () => {
    const one = registry();
    accept(one, "b8:27:eb:01:02:03");
    takeCopy(state, (file) => one.copyTo(file), NOW);
    const newer = takeCopy(state, (file) => one.copyTo(file), new Date("2026-03-02T00:00:00Z"));
    writeFileSync(newer.path, "this is no database");
    one.close();
    open.pop();
    expect(restoreCopy(state, NOW).path).toEndWith("registry-2026-03-01.sqlite");
  });
});

describe("copies", () => {
  test("one a day is kept, of a week", () => {
    const one = registry();
    for (let day = 1; day <= 9; day++)
      takeCopy(state, (file) => one.copyTo(file), new Date(Date.UTC(2026, 2, day)));
    const names = copiesOf(state).map(({ path: copy }) => copy.slice(-15));
    expect(names.length).toBe(7);
    expect([names[0], names[6]]).toEqual(["2026-03-09.sqlite", "2026-03-03.sqlite"].map((n) => n.slice(-15)));
  });

  test("one is taken after each acceptance; damage while the daemon runs is said, and the copy stays", async () => {
    const said: string[] = [];
    const say = (text: string, fields: { event: string }): void => void said.push(`${fields.event} ${text}`);
    const log: Log = { debug() {}, info: say, warn: say, error: say, with: () => log };
    const one = registry();
    takeCopy(state, (file) => one.copyTo(file), new Date());
    const copied = { path, check: () => one.check(), copyTo: (file: string) => one.copyTo(file) };
    let found = "ok";
    const keeper = new CopyKeeper({ ...copied, check: () => found, journal: one.journal }, log);
    try {
      accept(one, "b8:27:eb:01:02:03");
      one.journal.order({ kind: "device-accepted", device: one.list()[0] }, "alice");
      await eventually("the copy", () => said.some((line) => line.startsWith("registry-copied")));
      found = "Tree 4 page 3: btreeInitPage() returns error code 11";
      keeper.soon();
      const damaged = (): string | undefined => said.find((line) => line.startsWith("registry-damaged"));
      expect(await eventually("the damage", damaged)).toContain("walt server restore");
    } finally {
      keeper.stop();
    }
    using copy = new Database(copiesOf(state)[0]?.path ?? "", { readonly: true });
    expect(copy.query<{ n: number }, []>("SELECT count(*) AS n FROM devices").get()?.n).toBe(1);
  });
});

test("a registry that another program has locked is told apart, so that the start waits for it", () => {
  registry().close();
  open.pop();
  using other = new Database(path);
  other.run("PRAGMA locking_mode = EXCLUSIVE");
  other.run("BEGIN EXCLUSIVE");
  const refused = thrown(() => new Registry(path));
  expect(refused).toBeInstanceOf(RegistryLocked);
  expect(refused.hint).toContain("fuser");
  other.run("ROLLBACK");
});

describe("errors of the system are told with what to do, and are no bugs", () => {
  const of = (code: string, message = code): Error =>
    Object.assign(new Error(message), { code, syscall: "open" });
  test.each([
    ["ENOSPC", "df -h"],
    ["EMFILE", "LimitNOFILE"],
    ["EACCES", "ls -ld"],
    ["ENOMEM", "free -m"],
    ["SQLITE_CORRUPT", "walt server restore"],
    ["SQLITE_IOERR_WRITE", "dmesg"],
    ["SQLITE_FULL", "df -h"],
    ["SQLITE_BUSY", "fuser"],
  ])("%s", (code, cure) => expect(explained(of(code))?.hint).toContain(cure));

  test("mistakes of this program are not", () => {
    expect(explained(new TypeError("x is not a function"))).toBeUndefined();
    expect(explained(of("ERR_INVALID_ARG_TYPE"))).toBeUndefined();
    expect(explained(of("SQLITE_CONSTRAINT_UNIQUE"))).toBeUndefined();
  });

  test("a folder in the place of a file, as the system says it", () => {
    mkdirSync(join(state, "folder"));
    let error: unknown;
    try {
      readFileSync(join(state, "folder"));
    } catch (caught) {
      error = caught;
    }
    expect(explained(error)).toBeInstanceOf(WaltError);
  });
});

function never(): never {
  throw new Error("there is no device");
}
