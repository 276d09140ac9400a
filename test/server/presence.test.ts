/** When tunnels were up last, and how they ended: over restarts of the server, with a real registry. */

import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Log } from "../../src/log.ts";
import { Presence } from "../../src/server/presence.ts";
import { type Device, Registry } from "../../src/server/registry.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-presence-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const one of registries) one.close();
  rmSync(dir, { recursive: true, force: true });
});

const log: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => log };
let registry: Registry;
let device: Device;
let present: Device[];
let now: Date;
beforeEach(() => {
  registry = new Registry(join(dir, `${registries.length}.sqlite`));
  registries.push(registry);
  const board = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7" };
  now = new Date("2026-03-01T12:00:00.000Z");
  device = registry.accept({ ...board, publicKey: generateKey("x").publicKey }, "alice", now);
  present = [];
});

const presence = (): Presence =>
  new Presence(
    registry,
    () => present,
    log,
    () => now,
  );

test("a device that never was up is not known", () => {
  const first = presence();
  expect(first.of(device)).toBeUndefined();
  first.stop();
});

test("how a tunnel ended survives a restart, with its reason made safe", () => {
  const first = presence();
  first.up(device);
  now = new Date("2026-03-01T13:00:00.000Z");
  first.down(device, { kind: "silent", text: "silent for 10 s\u001b[2J" });
  first.stop();
  const second = presence();
  expect(second.of(device)).toEqual({
    seenAt: "2026-03-01T13:00:00.000Z",
    endedAt: "2026-03-01T13:00:00.000Z",
    end: "silent",
    reason: "silent for 10 s?[2J",
  });
  second.up(device);
  expect(second.of(device)).toMatchObject({ endedAt: null, reason: null });
  second.stop();
});

test("of a server that was killed it is known until when the tunnel was up, to the last write", () => {
  const first = presence();
  first.up(device);
  present = [device];
  now = new Date("2026-03-01T12:30:00.000Z");
  first.stop(); // what is written each minute
  const killed = presence();
  expect(killed.of(device)).toEqual({
    seenAt: "2026-03-01T12:30:00.000Z",
    endedAt: null,
    end: null,
    reason: null,
  });
  present = [];
  killed.stop();
});

test("a device that is removed leaves nothing", () => {
  const first = presence();
  first.up(device);
  first.stop();
  registry.revoke(device, now);
  registry.remove(device);
  expect(registry.presences().size).toBe(0);
});
