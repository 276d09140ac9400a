/** Who may use the VPN, with a real registry: keys, acceptance, certificates, revocation. */

import { Database } from "bun:sqlite";
import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AddressRange } from "../../src/address-range.ts";
import { ApiError } from "../../src/api/api-error.ts";
import { tokenHash } from "../../src/enrolment/token.ts";
import { formatLine, type Log } from "../../src/log.ts";
import { Devices } from "../../src/server/devices.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import type { NodeLease } from "../../src/server/net/walt-net.ts";
import { type Device, Registry } from "../../src/server/registry.ts";
import { parseCertificateLine } from "../../src/ssh/keys/certificate.ts";
import { fingerprint, generateKey, shortCode } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-devices-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const registry of registries) registry.close();
  rmSync(dir, { recursive: true, force: true });
});

const keys = ServerKeys.load(dir);
const { publicKey } = generateKey("device");
const request = { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7", publicKey };

let registry: Registry;
let devices: Devices;
let nodes: string[][];
let range: AddressRange;
let logged: string[];
let netFails: boolean;
beforeEach(() => {
  registry = new Registry(join(dir, `${registries.length}.sqlite`));
  registries.push(registry);
  nodes = [];
  logged = [];
  const note: Log["info"] = (message, fields) => void logged.push(formatLine("", message, fields));
  const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
  netFails = false;
  const net = {
    setNodes: (all: readonly NodeLease[]) => {
      if (netFails) throw new Error("no space left on device");
      nodes.push(all.map(({ node }) => node));
    },
  };
  range = AddressRange.beside("10.0.0.1/29");
  devices = new Devices(registry, keys, net, () => [range, new Map()], 86_400_000, log);
});

test("a key is the enrolment key, a registered device's, or nobody's", () => {
  expect(devices.identify(keys.of("enrolment").publicKey)).toEqual({ kind: "enrolment" });
  expect(devices.identify(publicKey)).toBeUndefined();
  devices.accept(request, "alice");
  expect(devices.identify(publicKey)).toMatchObject({ kind: "device", device: { node: "vpn-010203" } });
});

test("an accepted device has a certificate and a name on walt-net, and is logged", () => {
  const given = devices.accept(request, "alice");
  expect(given).toMatchObject({ node: "vpn-010203", renewAfter: 43_200 });
  expect(nodes).toEqual([["vpn-010203"]]);
  expect(registry.list()).toMatchObject([{ address: "10.0.0.2" }]);
  const print = fingerprint(publicKey);
  expect(logged).toEqual([
    `device accepted event=device-accepted node=vpn-010203 board=b8:27:eb:01:02:03 code=${shortCode(publicKey)} fingerprint=${print} by=alice`,
  ]);
  const device = registry.byKey(publicKey) as Device;
  expect(devices.grant(device).certificate).not.toBe(given.certificate);
});

test("a device that came in meanwhile is not registered twice, whoever accepts it", () => {
  devices.accept(request, "alice");
  expect(devices.accept(request, "bob")).toMatchObject({ node: "vpn-010203" });
  expect(registry.list()).toMatchObject([{ acceptedBy: "alice" }]);
});

test("a device that was revoked meanwhile is not accepted, and the operator is told why", () => {
  devices.accept(request, "alice");
  registry.revoke(registry.byKey(publicKey) as Device, new Date());
  expect(() => devices.accept(request, "bob")).toThrow("this device was vpn-010203, which was revoked");
  expect(devices.identify(publicKey)).toBeUndefined();
});

test("a device gets some dozen certificates at once, and not more; another one gets its own", () => {
  devices.accept(request, "alice");
  const other = { ...request, publicKey: generateKey("other").publicKey };
  devices.accept(other, "alice");
  const device = registry.byKey(publicKey) as Device;
  for (let i = 0; i < 32; i++) devices.grant(device);
  expect(() => {
    for (let i = 0; i < 32; i++) devices.grant(device);
  }).toThrow("vpn-010203 asks for certificates too often");
  devices.grant(registry.byKey(other.publicKey) as Device);
});

describe("names and notes", () => {
  const live = { tunnels: { stop: async () => {} }, endpoint: { stopConnections: () => {} } };
  const journal = () => registry.journal.events({});

  test("a node that is renamed has its name in DHCP at once; its credentials keep the default name", () => {
    devices.accept(request, "alice");
    devices.rename("vpn-010203", "lab-3", "bob");
    expect(nodes.at(-1)).toEqual(["lab-3"]);
    const given = devices.grant(registry.byKey(publicKey) as Device);
    expect(given).toMatchObject({ node: "vpn-010203", name: "lab-3" });
    expect(parseCertificateLine(given.certificate, "x").keyId).toBe("lab-3 b8:27:eb:01:02:03");
    expect(logged.at(-1)).toBe("node renamed event=node-renamed node=lab-3 was=vpn-010203 by=bob");
    devices.rename("lab-3", "vpn-010203", "bob");
    expect(devices.grant(registry.byKey(publicKey) as Device)).not.toHaveProperty("name");
  });

  test("a name may be given with the answer; one that is taken leaves the device where it was", () => {
    expect(devices.accept(request, "alice", "lab-3")).toMatchObject({ node: "vpn-010203", name: "lab-3" });
    const other = { ...request, publicKey: generateKey("other").publicKey };
    expect(() => devices.accept(other, "alice", "lab-3")).toThrow("the name lab-3 is taken");
    expect(registry.list()).toHaveLength(1);
  });

  test("of a node that is not there are refused", () => {
    expect(() => devices.rename("lab-9", "lab-3", "bob")).toThrow(ApiError);
    expect(() => devices.setNote("lab-9", "x", "bob")).toThrow('there is no node "lab-9"');
    expect(journal()).toEqual([]);
  });

  test("what operators order is in the journal, with their names; what fails is not", () => {
    const { token, id } = devices.addToken({ uses: 1, expires: 1000, note: "n", by: "al" });
    devices.withdraw("token", id, "bob");
    devices.accept(request, "al", "lab-3");
    devices.setNote("lab-3", "in the cellar", "al");
    devices.rename("lab-3", "lab-4", "bob");
    devices.rename("lab-4", "lab-4", "bob");
    expect(() => devices.rename("lab-4", "vpn-ffffff", "bob")).toThrow();
    devices.revoke("lab-4", "eve", live);
    expect(journal().map(({ kind, node, by, details }) => [kind, node, by, details])).toMatchObject([
      ["invitation-added", null, "al", { invitation: 1, invited: "token", uses: 1, note: "n" }],
      ["invitation-withdrawn", null, "bob", { invitation: 1 }],
      ["device-accepted", "lab-3", "al", { code: shortCode(publicKey), board: request.mac }],
      ["node-noted", "lab-3", "al", { note: "in the cellar" }],
      ["node-renamed", "lab-4", "bob", { was: "lab-3" }],
      ["device-revoked", "lab-4", "eve", {}],
    ]);
    expect(JSON.stringify(journal())).not.toContain(token);
  });
});

describe("a device that is invited", () => {
  const order = { uses: 1, expires: 86_400_000, note: "school", by: "alice" };
  const other = () => ({ ...request, publicKey: generateKey("other").publicKey });

  test("comes in by its token, as often as that lasts", () => {
    const { token, id } = devices.addToken({ ...order, uses: 2 });
    for (const n of [1, 2]) {
      const invited = devices.acceptInvited({ ...other(), mac: `b8:27:eb:01:02:0${n}`, token });
      expect(invited).toMatchObject({ granted: { node: `vpn-01020${n}` } });
    }
    expect(registry.list().map((one) => one.acceptedBy)).toEqual(Array(2).fill(`token ${id} of alice`));
    expect(devices.invitations()).toMatchObject([{ used: 2, state: "used up", note: "school" }]);
    expect(devices.acceptInvited({ ...other(), token })).toEqual({
      warnings: ["the token on its card is used up"],
    });
    expect(registry.list()).toHaveLength(2);
  });

  test("by no token that was withdrawn, has expired or was never given", () => {
    const withdrawn = devices.addToken(order);
    devices.withdraw("token", withdrawn.id, "bob");
    const expired = devices.addToken({ ...order, expires: 0 });
    for (const [token, why] of [
      [withdrawn.token, "withdrawn"],
      [expired.token, "expired"],
      ["walt_AAAAAAAAAAAAAAAAAAAAAA", "not known to this server"],
    ] as const)
      expect(devices.acceptInvited({ ...other(), token })).toEqual({
        warnings: [`the token on its card is ${why}`],
      });
    expect(devices.acceptInvited(other())).toEqual({ warnings: [] });
    expect(registry.list()).toEqual([]);
    expect(() => devices.withdraw("token", withdrawn.id, "bob")).toThrow("withdrawn already");
    expect(() => devices.withdraw("board", expired.id, "bob")).toThrow("no expected board");
  });

  test("by what it says of its board: all that was told must fit, and once", () => {
    const { expires, note, by } = order;
    devices.expect({ mac: request.mac, serialNumber: "8", expires, note, by });
    expect(devices.acceptInvited(request)).toEqual({ warnings: [] });
    devices.expect({ mac: undefined, serialNumber: "7", expires, note, by });
    expect(devices.acceptInvited(request)).toMatchObject({ granted: { node: "vpn-010203" } });
    expect(devices.acceptInvited(other())).toEqual({ warnings: [] });
  });

  test("by what it says of its board, where its token is none", () => {
    devices.expect({ ...order, mac: request.mac, serialNumber: undefined });
    expect(devices.acceptInvited({ ...request, token: "walt_x" })).toHaveProperty("granted");
  });

  test("keeps its token when it cannot be registered", () => {
    const { token } = devices.addToken(order);
    const failing = new Devices(
      registry,
      keys,
      { setNodes: () => {} },
      () => undefined,
      Number.NaN,
      devices.log,
    );
    expect(() => failing.acceptInvited({ ...request, token })).toThrow();
    expect(devices.invitations()).toMatchObject([{ used: 0 }]);
    expect(registry.list()).toEqual([]);
    expect(devices.acceptInvited({ ...request, token })).toHaveProperty("granted");
  });

  test("comes in only while walt-net has an address for its node", () => {
    for (let n = 0; n < 5; n++) devices.accept({ ...other(), mac: `b8:27:eb:01:02:0${n}` }, "alice");
    const { token } = devices.addToken(order);
    expect(() => devices.acceptInvited({ ...other(), mac: "b8:27:eb:01:02:09", token })).toThrow(
      "all from 10.0.0.2 to 10.0.0.6 are taken",
    );
    expect([registry.list().length, devices.invitations()[0]?.used]).toEqual([5, 0]);
    range = AddressRange.beside("10.0.0.1/28");
    expect(devices.acceptInvited({ ...other(), mac: "b8:27:eb:01:02:09", token })).toHaveProperty("granted");
  });

  test("the registry has no token, only its hash", () => {
    const { token } = devices.addToken(order);
    const stored = registries.map(({ path }) =>
      [path, `${path}-wal`].map((file) => readFileSync(file, "latin1")).join(),
    );
    expect(stored.join()).not.toContain(token);
    expect(stored.join()).toContain(tokenHash(token));
    expect(logged.join()).not.toContain(token);
  });

  test("there are at most 1000 at a time, and those that are over make room", () => {
    const { expires, note, by } = order;
    const first = devices.expect({ mac: request.mac, serialNumber: undefined, expires, note, by });
    for (let n = 1; n < 1000; n++)
      devices.expect({ mac: undefined, serialNumber: String(n), expires, note, by });
    expect(() => devices.addToken(order)).toThrow("1000 tokens and expected boards are valid already");
    devices.withdraw("board", first.id, "bob");
    devices.addToken(order);
    expect(devices.invitations()).toHaveLength(1000);
  });
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
    expect([nodes.at(-1), registry.active().length]).toEqual([[], 0]);
    expect(logged.at(-1)).toBe("device revoked event=device-revoked node=vpn-010203 by=bob");
    expect(now.done).toEqual([["vpn-010203", "this node was revoked"], device.id]);
  });

  test("counts although DHCP could not be told", () => {
    devices.accept(request, "alice");
    netFails = true;
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    expect(devices.identify(publicKey)).toBeUndefined();
    expect(logged.slice(-2)).toEqual([
      expect.stringContaining("event=dhcp-names-failed"),
      "device revoked event=device-revoked node=vpn-010203 by=bob",
    ]);
  });

  test("can be undone, unless another device is the node by then", () => {
    devices.accept(request, "alice");
    const { address } = registry.byKey(publicKey) as Device;
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    devices.restore("vpn-010203", fingerprint(publicKey), "carol");
    expect(devices.identify(publicKey)).toMatchObject({ device: { node: "vpn-010203", address } });
    expect(nodes.at(-1)).toEqual(["vpn-010203"]);
    expect(logged.at(-1)).toBe("device restored event=device-restored node=vpn-010203 by=carol");
    expect(() => devices.restore("vpn-010203", fingerprint(publicKey), "carol")).toThrow("no revoked device");

    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    const next = { ...request, publicKey: generateKey("next").publicKey };
    devices.accept(next, "alice");
    expect(() => devices.restore("vpn-010203", fingerprint(publicKey), "carol")).toThrow(
      /another device is the node vpn-010203 now/,
    );
    // Of the two that were the node, the key says which one is meant; an address has one owner.
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    const other = { ...request, mac: "b8:27:eb:0a:0b:0c", publicKey: generateKey("other").publicKey };
    const { mac } = registry.accept(other, "alice", new Date());
    registry.assignAddresses(range, new Map([[mac, "10.0.0.2"]]));
    expect(registry.byKey(other.publicKey)?.address).toBe("10.0.0.2");
    devices.restore("vpn-010203", fingerprint(publicKey), "carol");
    expect(registry.byKey(publicKey)).toMatchObject({ revokedAt: null, address: "10.0.0.3" });
    expect(registry.journal.events({}).map(({ kind }) => kind)).toContain("device-restored");
  });

  test("with an order to ask again: the device is told when it asks, and then cannot be restored", () => {
    devices.accept(request, "alice");
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    expect(registry.byKey(publicKey)?.reenrol).toBe("no");
    const at = registry.byKey(publicKey)?.revokedAt;
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()), true); // one that is revoked already
    expect(registry.byKey(publicKey)).toMatchObject({ reenrol: "ordered", revokedAt: at });
    devices.restore("vpn-010203", fingerprint(publicKey), "carol");
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()), true);
    registry.toldToForget(registry.byKey(publicKey) as Device);
    expect(() => devices.restore("vpn-010203", fingerprint(publicKey), "carol")).toThrow(
      "was told to forget this key",
    );
    expect(logged.at(-1)).toBe("device revoked event=device-revoked node=vpn-010203 reenrol=ordered by=bob");
  });

  test("of a device that is removed then: only once its certificate has expired; the journal still has it", () => {
    devices.accept(request, "alice");
    const print = fingerprint(publicKey);
    expect(() => devices.remove("vpn-010203", print, "bob")).toThrow("no revoked device");
    devices.revoke("vpn-010203", "bob", live(Promise.resolve()));
    expect(() => devices.remove("vpn-010203", print, "bob")).toThrow(/passes the proxies until 20/);
    expect(registry.list()).toHaveLength(1);
    const past = new Date("2026-01-01");
    registry.issue(registry.byKey(publicKey) as Device, past, past);
    using db = new Database(registry.path);
    db.run("DELETE FROM certificates WHERE expires_at > '2026-02'");
    devices.remove("vpn-010203", print, "bob");
    expect(registry.list()).toEqual([]);
    expect(registry.journal.events({ node: "vpn-010203" }).map(({ kind }) => kind)).toEqual([
      "device-accepted",
      "device-revoked",
      "device-removed",
    ]);
    // Its key is a stranger's.
    expect(devices.accept(request, "alice")).toMatchObject({ node: "vpn-010203" });
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
