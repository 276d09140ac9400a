/** An offered key counts only with a signature by its private half. */

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { type OfferContext, verifyOffer } from "../../../src/ssh/handshake/offered-key.ts";
import { parseCertificateLine, signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair, sign } from "../../../src/ssh/keys/ed25519.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";

const device = generateKey("device");
const other = generateKey("other");
const certificate = parseCertificateLine(
  signCertificate(generateKey("ca"), {
    ...{ publicKey: device.publicKey, serial: 1n, keyId: "k", principals: ["walt-vpn"] },
    ...{ validAfter: 0, validBefore: 1 },
  }),
  "test",
);
const blob = randomBytes(200);
const plain = { algo: "ssh-ed25519", data: device.publicKey.blob };
const certified = { algo: "ssh-ed25519-cert-v01@openssh.com", data: certificate.blob };
/** As ssh2 shows it for a certificate: with its wrapping. */
const wrapped = (by: KeyPair, algorithm = "ssh-ed25519") =>
  new WireWriter().string(algorithm).string(sign(by, blob)).bytes();
const context = (key: { algo: string; data: Buffer }, signature?: Buffer): OfferContext =>
  (signature === undefined ? { key } : { key, signature, blob }) as OfferContext;

test("without a signature it is a probe, for a key and for a certificate", () => {
  expect(verifyOffer(context(plain))).toMatchObject({ kind: "probe", key: { blob: device.publicKey.blob } });
  expect(verifyOffer(context(certified))).toMatchObject({
    kind: "probe",
    key: { blob: device.publicKey.blob },
  });
});

test("with the right signature it is signed, and a certificate comes along", () => {
  const offer = verifyOffer(context(plain, sign(device, blob)));
  expect(offer).toMatchObject({ kind: "signed", key: { blob: device.publicKey.blob } });
  expect(offer).not.toHaveProperty("certificate");
  expect(verifyOffer(context(certified, wrapped(device)))).toMatchObject({
    kind: "signed",
    key: { blob: device.publicKey.blob },
    certificate: { keyId: "k", blob: certificate.blob },
  });
});

test("any other signature is refused", () => {
  const good = sign(device, blob);
  for (const [key, signature] of [
    [plain, sign(other, blob)],
    [certified, wrapped(other)],
    [certified, wrapped(device, "ssh-rsa")],
    [certified, wrapped(device).subarray(1)],
    [certified, Buffer.concat([wrapped(device), Buffer.alloc(1)])],
    [plain, Buffer.alloc(64)],
    [plain, Buffer.alloc(0)],
    [plain, good.subarray(0, 63)],
    [plain, Buffer.concat([randomBytes(30), good])],
    [plain, randomBytes(1 << 20)],
    [{ ...certified, data: plain.data }, good],
    [{ ...plain, data: certified.data }, good],
  ] as const) {
    expect(verifyOffer(context(key, signature)).kind).toBe("refused");
  }
  expect(verifyOffer({ ...context(plain, good), blob: randomBytes(200) } as OfferContext).kind).toBe(
    "refused",
  );
  const { signature } = context(plain, good);
  expect(verifyOffer({ key: plain, signature } as OfferContext).kind).toBe("refused");
});

test("other key types and garbage are refused in words", () => {
  for (const [algo, data] of [
    ["ssh-rsa", randomBytes(279)],
    ["ssh-ed25519", Buffer.alloc(0)],
    ["ssh-ed25519", randomBytes(51)],
    ["ssh-ed25519-cert-v01@openssh.com", randomBytes(400)],
    ["\u001b[2J", Buffer.alloc(4)],
  ] as const) {
    const offer = verifyOffer(context({ algo, data }));
    expect(offer.kind).toBe("refused");
    expect(offer).toMatchObject({ reason: expect.not.stringContaining("\u001b") });
  }
});
