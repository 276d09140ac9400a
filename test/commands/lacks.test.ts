/** `walt config check`: what is missing for a role, although every key is right. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lacksOf } from "../../src/commands/config/_lacks.ts";
import { loadConfig } from "../../src/config/load.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-lacks-"));
  for (const [name, mtu] of [
    ["br-small", 1500],
    ["eth0", 1500],
  ] as const) {
    mkdirSync(join(dir, "net", name), { recursive: true });
    writeFileSync(join(dir, "net", name, "mtu"), `${mtu}\n`);
  }
  mkdirSync(join(dir, "net/br-small/bridge"));
});
afterAll(() => rmSync(dir, { recursive: true }));

function lacks(toml: string, name = "vpn.toml"): string[] {
  const file = join(dir, name);
  writeFileSync(file, toml);
  return lacksOf(loadConfig(file), join(dir, "net")).map(({ what }) => what.replaceAll(dir, ""));
}

test("a role", () => {
  expect(lacks("")).toEqual(["it does not say a role"]);
});

test("a server: the bridge that it does not make itself, and a group that was named", () => {
  const network = (lines: string): string => `role = "server"\n[server.network]\nmanaged = false\n${lines}`;
  expect(lacks('role = "server"\n')).toEqual([]);
  expect(lacks(network('bridge = "nowhere"'))).toEqual(["the bridge nowhere does not exist"]);
  expect(lacks(network('bridge = "eth0"'))).toEqual(["eth0 is a network interface, but no bridge"]);
  expect(lacks(network('bridge = "br-small"'))).toEqual([]);
  expect(lacks(network('bridge = "br-small"\nmtu = 9000'))).toEqual([
    "the bridge br-small has an MTU of 1500, less than server.network.mtu",
  ]);
  expect(lacks('role = "server"\n[server]\ngroup = "no-such-group"\n')).toEqual([
    "the group no-such-group does not exist",
  ]);
});

test("a proxy: the next hop and the server's keys", () => {
  expect(lacks('role = "proxy"\n')).toEqual(["/vpn.toml lacks proxy.next, proxy.ca, proxy.enrolment"]);
});

test("a device: entrypoint, server, the files beside it, the network card", () => {
  mkdirSync(join(dir, "device"));
  const at = "device/vpn.toml";
  const device = (lines: string): string => `role = "device"\n[device]\n${lines}`;
  expect(lacks(device(""), at)).toEqual([
    "device.entrypoint is not set",
    "/device/known_hosts is missing or empty: it must have the host keys of entrypoint and server",
  ]);
  writeFileSync(join(dir, "device/known_hosts"), "walt-server ssh-ed25519 AAAA\n");
  writeFileSync(join(dir, "device/enrolment_key"), "key\n");
  expect(lacks(device('entrypoint = "gate.example.org"'), at)).toEqual([
    "device.server is not set, but the entrypoint gate.example.org:22 is a proxy",
  ]);
  const good = 'entrypoint = "gate.example.org"\nserver = "walt.lab.example:2222"\n';
  expect(lacks(device(good), at)).toEqual([]);
  expect(lacks(device(`${good}interface = "eth7"`), at)).toEqual([
    "the network card eth7 (device.interface) does not exist",
  ]);
});
