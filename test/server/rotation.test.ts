/** Rotation of the server's keys, with a real registry: who has a new key, and when the old one goes. */

import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseReply } from "../../src/enrolment/messages.ts";
import { createLog } from "../../src/log.ts";
import { Devices } from "../../src/server/devices.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import { Registry } from "../../src/server/registry.ts";
import { Rotation } from "../../src/server/rotation.ts";
import { parseCertificateLine, refusalOf, VPN_PRINCIPAL } from "../../src/ssh/keys/certificate.ts";
import { fingerprint, generateKey, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../src/ssh/keys/key-files.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-rotation-"));
const registries: Registry[] = [];
afterAll(() => {
  for (const one of registries) one.close();
  rmSync(dir, { recursive: true });
});

let keys: ServerKeys;
let registry: Registry;
let devices: Devices;
let rotation: Rotation;
beforeEach(() => {
  const state = mkdtempSync(join(dir, "state-"));
  keys = ServerKeys.load(state);
  registry = new Registry(join(state, "registry.sqlite"));
  registries.push(registry);
  const log = createLog(0);
  devices = new Devices(registry, keys, { setNodes: () => {} }, () => undefined, 86_400_000, log);
  rotation = new Rotation(keys, registry, log);
});

const board = (n: number) => {
  const { publicKey } = generateKey("device");
  const given = devices.accept(
    { mac: `b8:27:eb:00:00:0${n}`, model: "Pi", serialNumber: "7", publicKey },
    "al",
  );
  return { publicKey, given };
};

test("a new key stands beside the old one until every board has confirmed it", () => {
  const [one, two] = [board(1), board(2)];
  devices.confirmation(one.publicKey)(); // what was good before the rotation
  expect(rotation.list()).toMatchObject([{ next: null }, { next: null }, { next: null }]);
  const begun = rotation.begin("enrolment", "al");
  expect(begun).toMatchObject({ key: "enrolment", waiting: ["vpn-000001", "vpn-000002"] });
  expect(rotation.begin("enrolment", "bob")).toEqual(begun);
  expect(() => rotation.finish("enrolment", false, "al")).toThrow("vpn-000001, vpn-000002");
  devices.confirmation(one.publicKey)();
  expect(rotation.of("enrolment").waiting).toEqual(["vpn-000002"]);
  expect(() => rotation.finish("enrolment", false, "al")).toThrow("vpn-000002");
  devices.confirmation(two.publicKey)();
  const old = keys.of("enrolment").publicKey;
  for (const key of keys.all("enrolment"))
    expect(devices.identify(key.publicKey)).toEqual({ kind: "enrolment" });
  expect(rotation.finish("enrolment", false, "al")).toMatchObject({ fingerprint: begun.next, next: null });
  expect(devices.identify(old)).toBeUndefined();
  expect(() => rotation.finish("enrolment", false, "al")).toThrow("no new enrolment key");
  // What was done is in the journal, and what was refused is not.
  const details = { key: "enrolment", fingerprint: begun.next };
  expect(registry.journal.events({}).filter(({ kind }) => kind.startsWith("rotation"))).toMatchObject([
    { kind: "rotation-began", by: "al", details },
    { kind: "rotation-finished", by: "al", details: { ...details, without: 0 } },
  ]);
});

test("a revoked board does not hold a rotation up; by force it is finished without the others", () => {
  board(1);
  board(2);
  rotation.begin("host", "al");
  const device = registry.byNode("vpn-000001");
  if (device !== undefined) registry.revoke(device, new Date());
  expect(rotation.of("host").waiting).toEqual(["vpn-000002"]);
  expect(rotation.finish("host", true, "al").next).toBeNull();
});

test("a confirmation is of the keys that were told, not of those that came later", () => {
  const { publicKey } = board(1);
  const stored = devices.confirmation(publicKey);
  rotation.begin("ca", "al");
  stored();
  expect(rotation.of("ca").waiting).toEqual(["vpn-000001"]);
});

test("a grant has certificates of both CAs, and all keys that are good, the newest enrolment key first", () => {
  board(1);
  for (const key of ["ca", "host", "enrolment"] as const) rotation.begin(key, "al");
  const device = registry.byNode("vpn-000001");
  if (device === undefined) throw new Error("no device");
  const given = devices.grant(device);
  // As it travels.
  const said = parseReply(JSON.stringify({ type: "granted", ...given }));
  expect(said).toEqual({ type: "granted", ...given });
  const refused = (line: string | undefined, name: "of" | "nextOf") =>
    refusalOf(parseCertificateLine(line ?? "", "test"), {
      ca: (keys[name]("ca") ?? keys.of("ca")).publicKey,
      principal: VPN_PRINCIPAL,
      now: Math.floor(Date.now() / 1000),
    });
  expect([refused(given.certificate, "of"), refused(given.nextCertificate, "nextOf")]).toEqual([
    undefined,
    undefined,
  ]);
  expect(refused(given.nextCertificate, "of")).toContain("another authority");
  const { hostKeys = [], enrolmentKeys = [] } = given.serverKeys ?? {};
  expect(hostKeys).toEqual(keys.all("host").map((one) => publicKeyLine({ ...one.publicKey, comment: "" })));
  expect(enrolmentKeys.map((text) => fingerprint(parsePrivateKey(text, "test").publicKey))).toEqual(
    keys
      .all("enrolment")
      .map((one) => fingerprint(one.publicKey))
      .toReversed(),
  );
  rotation.finish("ca", true, "al");
  expect(devices.grant(device).nextCertificate).toBeUndefined();
  expect(refused(devices.grant(device).certificate, "of")).toBeUndefined();
});
