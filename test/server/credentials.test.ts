import { afterAll, describe, expect, test } from "bun:test";
import { createPublicKey } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EnrolmentRequest } from "../../src/enrolment/messages.ts";
import { run } from "../../src/linux/run.ts";
import { admit, grant } from "../../src/server/credentials.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import { Registry } from "../../src/server/registry.ts";
import { parseCertificateLine, refusalOf, VPN_PRINCIPAL } from "../../src/ssh/keys/certificate.ts";
import { fingerprint, generateKey, type KeyPair } from "../../src/ssh/keys/ed25519.ts";
import { describeWith } from "../lab/need.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-credentials-"));
const registry = new Registry(join(dir, "registry.sqlite"));
afterAll(() => {
  registry.close();
  rmSync(dir, { recursive: true, force: true });
});

const NOW = new Date("2026-03-01T12:00:00Z");
const DAY = 86_400_000;
const keys = ServerKeys.load(dir);
const ca = keys.of("ca");
const { publicKey } = generateKey("device");
const device = registry.accept(
  { mac: "b8:27:eb:01:02:03", model: "Pi", serialNumber: "7", publicKey },
  "alice",
  NOW,
);

test("a grant: node, MAC, a certificate without comment, and its renewal at half of the validity", () => {
  const given = grant(registry, keys, device, 7 * DAY, NOW);
  expect(given).toMatchObject({
    node: "vpn-010203",
    mac: expect.stringMatching(/^d6:..:..:01:02:03$/),
    renewAfter: 302_400,
  });
  expect(given.certificate.split(" ")).toHaveLength(2);
  expect(grant(registry, keys, device, 1000, NOW).renewAfter).toBe(1);
});

test("a certificate is valid from an hour before its issue until the end of its validity", () => {
  const at = (ms: number): string | undefined =>
    refusalOf(certificate, {
      ca: ca.publicKey,
      principal: VPN_PRINCIPAL,
      now: Math.floor((NOW.getTime() + ms) / 1000),
    });
  const certificate = parseCertificateLine(grant(registry, keys, device, 7 * DAY, NOW).certificate, "test");
  for (const ms of [0, -3_599_000, 7 * DAY - 1000]) expect(at(ms)).toBeUndefined();
  for (const ms of [-3_601_000, 7 * DAY + 1000]) expect(at(ms)).toBeString();
});

test("each has a new serial, which the registry knows", () => {
  const [one, two] = [1, 2].map(
    () => parseCertificateLine(grant(registry, keys, device, DAY, NOW).certificate, "test").serial,
  );
  expect(two).toBe((one ?? 0n) + 1n);
  expect(BigInt(registry.byNode("vpn-010203")?.certificateSerial ?? 0)).toBe(two ?? 0n);
});

describe("what cannot be done stores nothing", () => {
  const request: EnrolmentRequest = {
    mac: "b8:27:eb:0a:0b:0c",
    model: "Pi",
    serialNumber: "8",
    publicKey: generateKey("other").publicKey,
  };
  const serial = (): number | undefined => registry.byNode(device.node)?.certificateSerial;

  test("a clock that was never set", () => {
    const before = serial();
    for (const time of ["1970-01-01T00:20:00Z", "2023-12-31T23:59:59Z"]) {
      const early = new Date(time);
      const said = `the server's clock says ${early.toISOString()}`;
      expect(() => admit(registry, keys, request, "alice", DAY, early)).toThrow(said);
      expect(() => grant(registry, keys, device, DAY, early)).toThrow(said);
    }
    expect(registry.byKey(request.publicKey)).toBeUndefined();
    expect(serial()).toBe(before);
  });

  test("a signature that fails: neither the device nor the serial of its certificate", () => {
    const before = serial();
    const broken = Object.create(keys, {
      of: { value: (): KeyPair => ({ ...ca, privateKey: createPublicKey(ca.privateKey) }) },
    }) as ServerKeys;
    expect(() => admit(registry, broken, request, "alice", DAY, NOW)).toThrow();
    expect(() => grant(registry, broken, device, DAY, NOW)).toThrow();
    expect(registry.byKey(request.publicKey)).toBeUndefined();
    expect(serial()).toBe(before);
    // The same board is let in as if nothing had been.
    expect(admit(registry, keys, request, "alice", DAY, NOW).node).toBe("vpn-0a0b0c");
    expect(registry.byKey(request.publicKey)?.acceptedBy).toBe("alice");
  });
});

describeWith({ programs: ["ssh-keygen"] }, "ssh-keygen", () => {
  test("reads it: type, key, CA, id, serial, validity, principal, and the one permission", async () => {
    const file = join(dir, "certificate.pub");
    const given = grant(registry, keys, device, 7 * DAY, NOW);
    writeFileSync(file, `${given.certificate}\n`);
    const shown = await run(["ssh-keygen", "-L", "-f", file], {
      env: { PATH: process.env["PATH"], TZ: "UTC" },
    });
    const lines = shown.split("\n").map((line) => line.trim());
    const after = (name: string): string[] => lines.slice(lines.indexOf(name) + 1);
    expect(lines).toContain("Type: ssh-ed25519-cert-v01@openssh.com user certificate");
    expect(lines).toContain(`Public key: ED25519-CERT ${fingerprint(publicKey)}`);
    expect(shown).toContain(`Signing CA: ED25519 ${fingerprint(ca.publicKey)}`);
    expect(lines).toContain('Key ID: "vpn-010203 b8:27:eb:01:02:03"');
    expect(lines).toContain(`Serial: ${registry.byNode("vpn-010203")?.certificateSerial}`);
    expect(lines).toContain("Valid: from 2026-03-01T11:00:00 to 2026-03-08T12:00:00");
    expect(after("Principals:").slice(0, 2)).toEqual(["walt-vpn", "Critical Options: (none)"]);
    expect(after("Extensions:").filter((line) => line !== "")).toEqual(["permit-port-forwarding"]);
  });
});
