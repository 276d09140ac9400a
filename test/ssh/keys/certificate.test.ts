/** Certificates are OpenSSH's, both ways, and what is wrong with one is said or thrown as a WaltError. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WaltError } from "../../../src/errors.ts";
import { run } from "../../../src/linux/run.ts";
import {
  type CertificateContent,
  parseCertificate,
  parseCertificateLine,
  refusalOf,
  signCertificate,
} from "../../../src/ssh/keys/certificate.ts";
import { fingerprint, generateKey, publicKeyLine, sameKey } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { describeWith } from "../../lab/need.ts";

const NOW = 1_800_000_000;
const ca = generateKey("ca");
const device = generateKey("device");
const content: CertificateContent = {
  publicKey: device.publicKey,
  serial: 18_446_744_073_709_551_615n,
  keyId: "vpn-010203",
  principals: ["walt-vpn"],
  validAfter: NOW - 60,
  validBefore: NOW + 3600,
};
const asked = { ca: ca.publicKey, principal: "walt-vpn", now: NOW };
const refusal = (line: string, more = {}) =>
  refusalOf(parseCertificateLine(line, "test"), { ...asked, ...more });

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-cert-"));
  writeFileSync(join(dir, "ca"), encodePrivateKey(ca), { mode: 0o600 });
  writeFileSync(join(dir, "device.pub"), `${publicKeyLine(device.publicKey)}\n`);
});
afterAll(() => rmSync(dir, { recursive: true }));

describeWith({ programs: ["ssh-keygen"] }, "with ssh-keygen", () => {
  const theirs = async (...more: string[]): Promise<string> => {
    const identity = ["-s", join(dir, "ca"), "-I", "their id", "-n", "other,walt-vpn"];
    await run(["ssh-keygen", "-q", ...identity, ...more, join(dir, "device.pub")]);
    return readFileSync(join(dir, "device-cert.pub"), "utf8");
  };

  test("ssh-keygen -L shows exactly what we put into a certificate", async () => {
    const path = join(dir, "ours-cert.pub");
    writeFileSync(path, `${signCertificate(ca, content)}\n`);
    const shown = await run(["ssh-keygen", "-L", "-f", path], { env: { ...process.env, TZ: "UTC" } });
    expect(shown.split("\n").slice(1).join("\n")).toBe(
      [
        "        Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        `        Public key: ED25519-CERT ${fingerprint(device.publicKey)}`,
        `        Signing CA: ED25519 ${fingerprint(ca.publicKey)} (using ssh-ed25519)`,
        '        Key ID: "vpn-010203"',
        "        Serial: 18446744073709551615",
        "        Valid: from 2027-01-15T07:59:00 to 2027-01-15T09:00:00",
        "        Principals: ",
        "                walt-vpn",
        "        Critical Options: (none)",
        "        Extensions: ",
        "                permit-port-forwarding",
        "",
      ].join("\n"),
    );
  });

  test("a certificate that ssh-keygen signed is read and accepted", async () => {
    const line = await theirs("-z", "42", "-V", "20270101000000Z:20280101000000Z");
    const certificate = parseCertificateLine(line, "test");
    expect(refusalOf(certificate, asked)).toBeUndefined();
    expect(certificate.serial).toBe(42n);
    expect(certificate.keyId).toBe("their id");
    expect(certificate.principals).toEqual(["other", "walt-vpn"]);
    expect(certificate.validBefore).toBe(Date.UTC(2028, 0, 1) / 1000);
    expect(sameKey(certificate.publicKey, device.publicKey)).toBe(true);
    expect(certificate.extensions).toContain("permit-pty");
  });

  test("one that is valid for ever, one with a critical option, one without forwarding, one for a host", async () => {
    expect(refusal(await theirs())).toBeUndefined();
    expect(refusal(await theirs("-O", "force-command=id"))).toContain("critical option force-command");
    expect(refusal(await theirs("-O", "clear"))).toBe("it does not permit port forwarding");
    const host = await theirs("-h");
    expect(() => parseCertificateLine(host, "test")).toThrow(/no user certificate/);
  });

  test("one for a key of another type, and one by an authority of another type", async () => {
    await run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", join(dir, "ec")]);
    await run(["ssh-keygen", "-q", "-s", join(dir, "ca"), "-I", "x", "-n", "walt-vpn", join(dir, "ec.pub")]);
    const ec = readFileSync(join(dir, "ec-cert.pub"), "utf8");
    expect(() => parseCertificateLine(ec, "test")).toThrow(WaltError);
    await run(["ssh-keygen", "-q", "-s", join(dir, "ec"), "-I", "x", "-n", "x", join(dir, "device.pub")]);
    const by = readFileSync(join(dir, "device-cert.pub"), "utf8");
    expect(() => parseCertificateLine(by, "test")).toThrow(/ecdsa-sha2-nistp256 instead of ssh-ed25519/);
  });
});

test("valid from its first second to before its last", () => {
  const line = signCertificate(ca, content);
  expect(refusal(line)).toBeUndefined();
  expect(refusal(line, { now: NOW - 60 })).toBeUndefined();
  expect(refusal(line, { now: NOW - 61 })).toBe("not valid before 2027-01-15T07:59:00.000Z");
  expect(refusal(line, { now: NOW + 3599 })).toBeUndefined();
  expect(refusal(line, { now: NOW + 3600 })).toBe("expired at 2027-01-15T09:00:00.000Z");
});

test("another authority, another principal, and no principal at all are refused", () => {
  expect(refusal(signCertificate(generateKey("evil"), content))).toContain("signed by another authority");
  expect(refusal(signCertificate(ca, { ...content, principals: ["root"] }))).toContain(
    "not for the principal",
  );
  expect(refusal(signCertificate(ca, { ...content, principals: [] }))).toContain("not for the principal");
});

test("changed at any byte it is refused or malformed; cut anywhere it is malformed", () => {
  const { blob } = parseCertificateLine(signCertificate(ca, content), "test");
  for (let i = 0; i < blob.length; i++) {
    expect(() => parseCertificate(blob.subarray(0, i))).toThrow(WaltError);
    const changed = Buffer.from(blob);
    changed.writeUInt8(changed.readUInt8(i) ^ 0x01, i);
    try {
      expect(refusalOf(parseCertificate(changed), asked)).toBeString();
    } catch (error) {
      if (!(error instanceof WaltError)) throw error;
    }
  }
  expect(() => parseCertificate(Buffer.concat([blob, Buffer.alloc(1)]))).toThrow(/bytes too many/);
});

test("garbage, huge lengths and 1 MB are malformed", () => {
  const good = signCertificate(ca, content);
  expect(() => parseCertificate(Buffer.alloc(1 << 20))).toThrow(/too long/);
  expect(() => parseCertificate(Buffer.alloc(300, 0xff))).toThrow(WaltError);
  for (const line of [
    "",
    "x",
    good.slice(0, -200),
    `${good}\n${good}`,
    "A".repeat(1 << 20),
    publicKeyLine(ca.publicKey),
  ]) {
    expect(() => parseCertificateLine(line, "test")).toThrow(WaltError);
  }
});
