/** Keys are OpenSSH's, to the byte, and their files are kept safe. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";
import { WaltError } from "../../../src/errors.ts";
import { run } from "../../../src/linux/run.ts";
import * as ed25519 from "../../../src/ssh/keys/ed25519.ts";
import * as keyFiles from "../../../src/ssh/keys/key-files.ts";
import { describeWith } from "../../lab/need.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-keys-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

describeWith({ programs: ["ssh-keygen"] }, "with ssh-keygen", () => {
  test("ssh-keygen reads our private key and agrees on public half and fingerprint", async () => {
    const path = join(dir, "ours");
    const pair = keyFiles.loadOrCreateKey(path, "device 1");
    expect((await run(["ssh-keygen", "-y", "-f", path])).trim()).toBe(ed25519.publicKeyLine(pair.publicKey));
    expect(await run(["ssh-keygen", "-l", "-f", `${path}.pub`])).toBe(
      `256 ${ed25519.fingerprint(pair.publicKey)} device 1 (ED25519)\n`,
    );
  });

  test("we read ssh-keygen's private and public key", async () => {
    const path = join(dir, "theirs");
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", path]);
    const pair = keyFiles.loadOrCreateKey(path, "unused");
    const line = readFileSync(`${path}.pub`, "utf8");
    expect(`${ed25519.publicKeyLine(pair.publicKey)}\n`).toBe(line);
    expect(ed25519.sameKey(ed25519.parsePublicKey(line, "file"), pair.publicKey)).toBe(true);
  });

  test("a key with a passphrase, and one of another type, are refused in words", async () => {
    const [locked, ecdsa] = [join(dir, "locked"), join(dir, "ecdsa")];
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked]);
    await run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", ecdsa]);
    expect(() => keyFiles.loadKey(locked)).toThrow(/it has a passphrase/);
    expect(() => keyFiles.loadKey(ecdsa)).toThrow(/ecdsa-sha2-nistp256 instead of ssh-ed25519/);
  });
});

test("ssh2 reads our private key", () => {
  const pair = ed25519.generateKey("x");
  const parsed = ssh2.utils.parseKey(keyFiles.encodePrivateKey(pair));
  if (parsed instanceof Error) throw parsed;
  expect(parsed.getPublicSSH()).toEqual(pair.publicKey.blob);
});

test("files: private 0600, public 0644, the same key the second time, and a lost public half comes back", () => {
  const path = join(dir, "modes");
  const first = keyFiles.loadOrCreateKey(path, "c");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(`${path}.pub`).mode & 0o777).toBe(0o644);
  unlinkSync(`${path}.pub`);
  const second = keyFiles.loadOrCreateKey(path, "other");
  expect(ed25519.sameKey(first.publicKey, second.publicKey)).toBe(true);
  expect(readFileSync(`${path}.pub`, "utf8")).toBe(`${ed25519.publicKeyLine(first.publicKey)}\n`);
});

test("a private key that others can read is refused, with what to do", () => {
  const path = join(dir, "open");
  keyFiles.loadOrCreateKey(path, "c");
  chmodSync(path, 0o640);
  try {
    keyFiles.loadOrCreateKey(path, "c");
    throw new Error("accepted");
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    expect(error.message).toContain("has mode 640");
    expect(error.hint).toContain("chmod 600");
  }
});

test("a broken private key is refused at every byte, and never replaced or shown", () => {
  const text = keyFiles.encodePrivateKey(ed25519.generateKey("c"));
  for (let i = 0; i < text.length - 1; i++) {
    expect(() => keyFiles.parsePrivateKey(text.slice(0, i), "k")).toThrow(WaltError);
  }
  const body = text.split("\n").slice(1, -2).join("");
  const bytes = Buffer.from(body, "base64");
  for (let i = 0; i < bytes.length; i++) {
    const wrong = Buffer.from(bytes);
    wrong.writeUInt8(wrong.readUInt8(i) ^ 0x55, i);
    const file = text.replace(/(KEY-----\n)[^-]+/, `$1${wrong.toString("base64")}\n`);
    try {
      keyFiles.parsePrivateKey(file, "k"); // a byte of the comment or of the unused copy may change
    } catch (error) {
      if (!(error instanceof WaltError)) throw error;
      expect(error.message).not.toContain(body.slice(60, 90));
    }
  }
  const path = join(dir, "garbage");
  writeFileSync(path, "garbage", { mode: 0o600 });
  expect(() => keyFiles.loadOrCreateKey(path, "c")).toThrow(/garbage is no private key/);
  expect(readFileSync(path, "utf8")).toBe("garbage");
});

test("public key lines: strict, bounded, and one line", () => {
  const line = ed25519.publicKeyLine(ed25519.generateKey("me@here").publicKey);
  expect(ed25519.publicKeyLine(ed25519.parsePublicKey(`${line}\n`, "x"))).toBe(line);
  const base64 = line.split(" ")[1] ?? "";
  for (const bad of [
    "",
    "ssh-ed25519",
    `ssh-rsa ${base64}`,
    `ssh-ed25519 ${base64.slice(0, -4)}`,
    `ssh-ed25519 ${base64}AAAA`,
    `ssh-ed25519 ${base64.slice(0, -1)}!`,
    `command="x" ${line}`,
    `${line}\n${line}`,
    `ssh-ed25519\t${base64}`,
    `ssh-ed25519 ${"A".repeat(1 << 20)}`,
    `${line}\u0000`,
  ]) {
    if (bad.endsWith("\u0000")) {
      expect(ed25519.parsePublicKey(bad, "x").comment).toBe("me@here?"); // never a control character
    } else {
      expect(() => ed25519.parsePublicKey(bad, "x")).toThrow(WaltError);
    }
  }
});

test("the short code is the first 50 bits of the SHA-256, in Crockford's base32", () => {
  const key = ed25519.parsePublicKey(
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f",
    "x",
  );
  const bits = [...new Bun.CryptoHasher("sha256").update(key.blob).digest()]
    .map((byte) => byte.toString(2).padStart(8, "0"))
    .join("");
  const expected = Array.from({ length: 10 }, (_, i) =>
    "0123456789ABCDEFGHJKMNPQRSTVWXYZ".charAt(Number.parseInt(bits.slice(i * 5, i * 5 + 5), 2)),
  ).join("");
  expect(ed25519.shortCode(key).replace("-", "")).toBe(expected);
  expect(ed25519.shortCode(key)).toMatch(/^[0-9A-Z]{5}-[0-9A-Z]{5}$/);
});

test("a signature verifies with its key and data alone", () => {
  const [a, b] = [ed25519.generateKey("a"), ed25519.generateKey("b")];
  const data = Buffer.from("data");
  const signature = ed25519.sign(a, data);
  expect(ed25519.verify(a.publicKey, data, signature)).toBe(true);
  expect(ed25519.verify(b.publicKey, data, signature)).toBe(false);
  expect(ed25519.verify(a.publicKey, Buffer.from("date"), signature)).toBe(false);
  expect(ed25519.verify(a.publicKey, data, signature.subarray(1))).toBe(false);
  expect(ed25519.verify(a.publicKey, data, Buffer.alloc(64, 0xff))).toBe(false);
});
