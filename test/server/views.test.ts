/** What the server shows of nodes, devices and itself, from made-up tunnels: no sockets, no clock. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SERVER } from "../../src/api/routes.ts";
import { parseReport } from "../../src/control/report.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import type { Device, Seen } from "../../src/server/registry.ts";
import type { Totals, TunnelInfo } from "../../src/server/tunnels.ts";
import {
  deviceList,
  metricsSnapshot,
  type NodesKnown,
  nodeList,
  type TunnelsSeen,
  trustInfo,
} from "../../src/server/views.ts";
import { fingerprint, generateKey, publicKeyLine, shortCode } from "../../src/ssh/keys/ed25519.ts";
import { TRAFFIC } from "../api/messages.ts";

const SINCE = new Date("2026-03-01T14:05:25.335Z");
const key = generateKey("device").publicKey;

const device = (id: number, more: Partial<Device> = {}): Device => ({
  id,
  node: `lab-${id}`,
  defaultName: `vpn-00000${id}`,
  note: "",
  mac: `52:54:00:00:00:0${id}`,
  address: null,
  boardMac: `b8:27:eb:00:00:0${id}`,
  model: "Pi",
  serialNumber: "7",
  publicKey: publicKeyLine(key),
  acceptedAt: SINCE.toISOString(),
  acceptedBy: "alice@lab",
  revokedAt: null,
  reenrol: "no",
  certificateSerial: 12,
  certificateExpires: SINCE.toISOString(),
  ...more,
});

const up: TunnelInfo = {
  state: "up",
  since: SINCE,
  via: "gate.example.org:22",
  framing: "messages",
  mtu: 1500,
  stats: TRAFFIC,
};
const TOTALS = { tunnels: 3 } as Totals;

/** The tunnels of devices by their ids. */
const tunnels = (infos: Record<number, TunnelInfo>): TunnelsSeen => ({
  info: ({ id }) => infos[id],
  totals: () => TOTALS,
});
const NOW = new Date("2026-03-01T15:00:00.000Z");
const SEEN: Seen = {
  seenAt: SINCE.toISOString(),
  endedAt: SINCE.toISOString(),
  end: "silent",
  reason: "silent for 10 s",
};
const KNOWN: NodesKnown = {
  presence: { of: () => undefined },
  reports: { of: () => undefined },
  net: { bootSeen: () => undefined },
};
const [one, two, gone] = [device(1), device(2), device(3, { revokedAt: SINCE.toISOString() })];

test("a node whose tunnel is up has its address, entrypoint, MTU and counters", () => {
  const addresses = new Map([[one.mac, "192.168.192.9"]]);
  expect(nodeList([one], tunnels({ 1: up }), addresses, KNOWN, NOW)).toEqual([
    {
      name: "lab-1",
      defaultName: "vpn-000001",
      note: "",
      type: "vpn",
      state: "up",
      mac: one.mac,
      address: "192.168.192.9",
      why: null,
      seen: NOW.toISOString(),
      since: SINCE.toISOString(),
      via: "gate.example.org:22",
      framing: "messages",
      mtu: 1500,
      rtt: TRAFFIC.rtt,
      loss: 0.016,
      traffic: TRAFFIC,
    },
  ]);
});

test("what is not known is null: of a tunnel in the original framing, before the first PING, and once it is down", () => {
  const original: TunnelInfo = {
    ...up,
    via: "",
    framing: "original",
    stats: { ...TRAFFIC, rtt: 0, pings: 0 },
  };
  expect(nodeList([one], tunnels({ 1: original }), new Map(), KNOWN)[0]).toMatchObject({
    address: null,
    via: null,
    framing: "original",
    rtt: null,
    loss: null,
  });
  const nothing = { via: null, framing: null, mtu: null, rtt: null, loss: null, traffic: null };
  const [down, never] = nodeList([one, two], tunnels({}), new Map(), {
    ...KNOWN,
    presence: { of: ({ id }) => (id === 1 ? SEEN : undefined) },
  });
  expect(down).toMatchObject({ state: "down", since: SINCE.toISOString(), seen: SEEN.seenAt, ...nothing });
  expect(down?.why).toEqual({ kind: "tunnel-ended", at: SEEN.endedAt, end: "silent", reason: SEEN.reason });
  expect(never).toMatchObject({ state: "down", since: null, seen: null, ...nothing });
  expect(never?.why).toMatchObject({ kind: "never-up", at: two.acceptedAt });
});

test("a device is up, down or revoked, and shows fingerprint and code of its key", () => {
  const list = deviceList([one, two, gone], tunnels({ 1: up, 3: up }));
  expect(list.map(({ state }) => state)).toEqual(["up", "down", "revoked"]);
  expect(list[0]).toMatchObject({
    node: "lab-1",
    defaultName: "vpn-000001",
    fingerprint: fingerprint(key),
    code: shortCode(key),
    certificateSerial: "12",
    revokedAt: null,
  });
});

test("metrics: nodes with the counters of the tunnel that is up, and how many devices are revoked", () => {
  const snapshot = metricsSnapshot(
    [one, two, gone],
    tunnels({ 1: up, 2: { ...up, state: "down" } }),
    {
      monitors: 2,
      pending: [],
    },
    { of: () => ({ receivedAt: new Date(), facts: parseReport({ temperature: 51 }) }) },
    { count: () => 3 },
    { size: 100, free: 50 },
  );
  expect(snapshot).toMatchObject({ revoked: 1, monitors: 2, pending: 0, disk: { size: 100, free: 50 } });
  expect(snapshot.nodes).toEqual([
    {
      node: "lab-1",
      up: true,
      totals: TOTALS,
      refusals: 3,
      stats: TRAFFIC,
      report: parseReport({ temperature: 51 }),
    },
    { node: "lab-2", up: false, totals: TOTALS, refusals: 3, stats: undefined },
  ]);
});

test("what the server shows is what a command of the same version reads", () => {
  const dir = mkdtempSync(join(tmpdir(), "walt-views-"));
  const trust = trustInfo(ServerKeys.load(dir), [gone], { host: "::1", port: 2222 });
  const seen = tunnels({ 1: up, 2: { ...up, framing: "original", state: "down" } });
  const nodes = nodeList([one, two], seen, new Map(), KNOWN);
  const devices = deviceList([one, two, gone], seen);
  const wire = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
  expect(SERVER.nodes.answer(wire(nodes), "nodes")).toEqual(nodes);
  expect(SERVER.devices.answer(wire(devices), "devices")).toEqual(devices);
  expect(SERVER.trust.answer(wire(trust), "trust")).toEqual(trust);
  expect(trust.address).toBe("[::1]:2222");
  rmSync(dir, { recursive: true });
});
