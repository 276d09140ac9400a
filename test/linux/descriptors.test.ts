/** What fails half-way leaves no file descriptor behind. */

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectFd } from "../../src/linux/fd-socket.ts";
import { openFile } from "../../src/linux/files.ts";
import { openTap } from "../../src/linux/tap.ts";
import { MIGRATIONS } from "../../src/server/migrations.ts";
import { Registry } from "../../src/server/registry.ts";
import { PumpThread } from "../../src/tunnel/pump-thread.ts";
import { describeWith } from "../lab/need.ts";

/** Numbers of the open descriptors, but the one that reads them. */
const open = (): string[] => readdirSync("/proc/self/fd").sort();

/** Fails `times` times; @returns the descriptors that are open then and were not before. */
async function leftBy(failing: () => unknown, times = 5): Promise<string[]> {
  await expect((async () => await failing())()).rejects.toThrow(); // what the first time opens for good
  const before = open();
  for (let n = 0; n < times; n++) await expect((async () => await failing())()).rejects.toThrow();
  const known = new Set(before);
  return open().filter((fd) => !known.has(fd));
}

test("a descriptor that cannot be a socket of the event loop is closed", async () => {
  const failing = (): Promise<unknown> =>
    connectFd({ fd: openSync("/etc/passwd", "r"), socket: { data() {} } });
  expect(await leftBy(failing)).toEqual([]);
});

test("the first of two files, when the second cannot be opened", async () => {
  const failing = (): never => {
    using _ = openFile("/etc/passwd", "r");
    using other = openFile("/nowhere/at/all", "wx");
    throw new Error(`${other.fd} is open`);
  };
  expect(await leftBy(failing)).toEqual([]);
});

test("a thread that cannot be started", async () => {
  for (const thread of ["file:///nowhere/at/all.ts", "no-scheme:of-a-file"])
    expect(await leftBy(() => PumpThread.start(new URL(thread)))).toEqual([]);
});

test("a registry that a newer walt wrote, or that is none", async () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-descriptors-"));
  const file = join(dir, "registry.sqlite");
  const db = new Database(file, { create: true });
  db.run("PRAGMA user_version = 1000");
  expect(await leftBy(() => new Registry(file))).toEqual([]);
  db.run(`PRAGMA user_version = ${MIGRATIONS.length}`); // a version without its tables
  db.close();
  expect(await leftBy(() => new Registry(file))).toEqual([]);
  expect(() => new Registry(file)).toThrow("cannot open the registry");
  writeFileSync(file, "no database at all ".repeat(100));
  expect(await leftBy(() => new Registry(file))).toEqual([]);
  rmSync(dir, { recursive: true, force: true });
});

describeWith({ root: true, files: ["/dev/net/tun"] }, "a TAP", () => {
  test("in a namespace that is none, or with a name that is taken", async () => {
    expect(await leftBy(() => openTap("tap0", "/dev/null"))).toEqual([]);
    expect(await leftBy(() => openTap("lo"))).toEqual([]);
  });
});
