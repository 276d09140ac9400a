/** Certificates, private keys, lines of public keys and known_hosts, under fuzz. */

import { expect } from "bun:test";
import {
  parseCertificate,
  parseCertificateLine,
  refusalOf,
  signCertificate,
  VPN_PRINCIPAL,
} from "../../../src/ssh/keys/certificate.ts";
import {
  generateKey,
  parsePublicKey,
  publicKeyLine,
  sameKey,
  seedOf,
} from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey, parsePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import { knownHostsLine, pinnedKeys } from "../../../src/ssh/keys/known-hosts.ts";
import { damage, damageText, fuzz, oneOf, plainWords, refusedOr, someBytes } from "../fuzz.ts";

const [ca, device] = [generateKey("ca"), generateKey("device")];

fuzz(
  "a certificate: it comes back as it was signed, and changed in any way it is not good",
  1000,
  (random) => {
    const content = {
      publicKey: device.publicKey,
      serial: BigInt(random(2 ** 31)),
      keyId: plainWords(random, 100),
      principals: [VPN_PRINCIPAL],
      validAfter: random(1000),
      validBefore: 1001 + random(1000),
    };
    const line = signCertificate(ca, content);
    const whole = parseCertificateLine(line, "x");
    const { keyId, principals, serial, validAfter, validBefore } = whole;
    expect({ keyId, principals, serial, validAfter, validBefore }).toEqual({
      ...{ keyId: content.keyId, principals: content.principals, serial: content.serial },
      ...{ validAfter: content.validAfter, validBefore: content.validBefore },
    });
    const judge = { ca: ca.publicKey, principal: VPN_PRINCIPAL, now: 1000 };
    expect(refusalOf(whole, judge)).toBeUndefined();
    for (let i = 0; i < 10; i++) {
      const bytes = random(20) === 0 ? someBytes(random, 400) : damage(whole.blob, random);
      const read = refusedOr(() => parseCertificate(bytes));
      if (read !== undefined && !bytes.equals(whole.blob)) expect(refusalOf(read, judge)).toBeString();
      const text = refusedOr(() => parseCertificateLine(damageText(line, random), "x"));
      if (text !== undefined && !text.blob.equals(whole.blob)) expect(refusalOf(text, judge)).toBeString();
    }
  },
);

fuzz("a private key: it comes back, and a broken one is refused or is the same key", 1000, (random) => {
  const pair = generateKey(plainWords(random, 60));
  const text = encodePrivateKey(pair);
  const whole = parsePrivateKey(text, "x");
  expect([whole.publicKey, seedOf(whole)]).toEqual([pair.publicKey, seedOf(pair)]);
  const [begin = "", ...lines] = text.trimEnd().split("\n");
  const end = lines.pop() ?? "";
  const blob = Buffer.from(lines.join(""), "base64");
  for (let i = 0; i < 10; i++) {
    const broken = oneOf(
      random,
      damageText(text, random),
      [begin, damage(blob, random).toString("base64"), end].join("\n"),
    );
    try {
      const read = refusedOr(() => parsePrivateKey(broken, "x"));
      if (read !== undefined) expect(seedOf(read)).toEqual(seedOf(pair));
    } catch (error) {
      // Nothing of the key is in an error.
      throw String(error).includes(lines[1] ?? "-") ? new Error("an error shows the key") : error;
    }
  }
});

fuzz(
  "a line of a public key: what is accepted can be written, and is read as the same key",
  4000,
  (random) => {
    const line = publicKeyLine({ ...device.publicKey, comment: plainWords(random, 60) });
    expect(sameKey(parsePublicKey(line, "x"), device.publicKey)).toBe(true);
    const read = refusedOr(() => parsePublicKey(damageText(line, random), "x"));
    if (read === undefined) return;
    const again = publicKeyLine(read);
    expect(again).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}]/u);
    expect(sameKey(parsePublicKey(again, "x"), read)).toBe(true);
  },
);

fuzz("known_hosts: what was written is found under its name alone, in any file", 2000, (random) => {
  const name = oneOf(random, "walt-server", `gate${random(100)}.example.org:22`, "[2001:db8::1]:22");
  const line = knownHostsLine(name, device.publicKey);
  const [found] = pinnedKeys(`other ${publicKeyLine(ca.publicKey)}\n${line}\n`, name, "x");
  expect(found?.blob).toEqual(device.publicKey.blob);
  const broken = `${damageText(line, random)}\n${damageText(line, random)}`;
  for (const key of refusedOr(() => pinnedKeys(broken, name, "x")) ?? []) {
    expect(pinnedKeys(knownHostsLine(name, key), name, "x")[0]?.blob).toEqual(key.blob);
  }
  const written = refusedOr(() =>
    knownHostsLine(damageText(name, random), damageText(line.slice(name.length + 1), random)),
  );
  // One line of three words, none of which means anything else to ssh.
  if (written !== undefined)
    expect(written).toMatch(/^[A-Za-z0-9[][^\s,*?!|]* [a-z0-9@.-]+ [A-Za-z0-9+/]+=*$/);
});
