/** Who may use the VPN, with a real registry: keys, acceptance, certificates, revocation. */

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiError } from "../../src/api/api-error.ts";
import { formatLine, type Log } from "../../src/log.ts";
import { Devices, nodeNames } from "../../src/server/devices.ts";
import { type Device, Registry } from "../../src/server/registry.ts";
import { fingerprint, generateKey, shortCode } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-devices-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const registry of registries) registry.close();
  rmSync(dir, { recursive: true, force: true });
});

const keys = { ca: generateKey("ca"), enrolment: generateKey("enrolment") };
const { publicKey } = generateKey("device");
const request = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7", publicKey };

let registry: Registry;
let devices: Devices;
let names: Record<string, string>[];
let logged: string[];
beforeEach(() => {
  registry = new Registry(join(dir, `${registries.length}.sqlite`));
  registries.push(registry);
  names = [];
  logged = [];
  const note: Log["info"] = (message, fields) => void logged.push(formatLine("", message, fields));
  const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
  const net = { setNames: (all: ReadonlyMap<string, string>) => void names.push(Object.fromEntries(all)) };
  devices = new Devices(registry, keys, net, 86_400_000, log);
});

test("a key is the enrolment key, a registered device's, or nobody's", () => {
  expect(devices.identify(keys.enrolment.publicKey)).toEqual({ kind: "enrolment" });
  expect(devices.identify(publicKey)).toBeUndefined();
  devices.accept(request, "alice");
  expect(devices.identify(publicKey)).toMatchObject({ kind: "device", device: { node: "vpn-010203" } });
});

test("an accepted device has a certificate and a name on walt-net, and is logged", () => {
  const given = devices.accept(request, "alice");
  expect(given).toMatchObject({ node: "vpn-010203", mac: "52:54:00:01:02:03", renewAfter: 43_200 });
  expect(names).toEqual([{ "52:54:00:01:02:03": "vpn-010203" }]);
  const print = fingerprint(publicKey);
  expect(logged).toEqual([
    `device accepted event=device-accepted node=vpn-010203 board=b8:27:eb:01:02:03 code=${shortCode(publicKey)} fingerprint=${print} by=alice`,
  ]);
  const device = registry.byKey(publicKey) as Device;
  expect(devices.grant(device).certificate).not.toBe(given.certificate);
});

describe("revoking", () => {
  const live = (told: Promise<void>) => {
    const done: unknown[] = [];
    const cut = Promise.withResolvers<void>();
    return {
      done,
      cut: cut.promise,
      tunnels: {
        stop: (reason: string, device?: Device): Promise<void> => {
          done.push([device?.node, reason]);
          return told;
        },
      },
      endpoint: {
        stopConnections: (id: number): void => {
          done.push(id);
          cut.resolve();
        },
      },
    };
  };

  test("refuses the key, forgets the name, tells the tunnel why, and ends all other connections in the same turn", () => {
    devices.accept(request, "alice");
    const device = registry.byKey(publicKey) as Device;
    // The tunnel's last word may take its time: nothing waits for it.
    const now = live(new Promise(() => {}));
    devices.revoke("vpn-010203", "bob", now);
    expect(devices.identify(publicKey)).toBeUndefined();
    expect([names.at(-1), nodeNames(registry).size]).toEqual([{}, 0]);
    expect(logged.at(-1)).toBe("device revoked event=device-revoked node=vpn-010203 by=bob");
    expect(now.done).toEqual([["vpn-010203", "this node was revoked"], device.id]);
  });

  test("a node that does not exist, or no more, is an error with a code", () => {
    devices.accept(request, "alice");
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    for (const node of ["vpn-010203", "x\u001b"]) {
      let thrown: unknown;
      try {
        devices.revoke(node, "bob", live(Promise.resolve()));
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBeInstanceOf(ApiError);
      expect(thrown).toMatchObject({
        code: "unknown-node",
        message: `there is no node ${JSON.stringify(node)}`,
      });
    }
  });
});
