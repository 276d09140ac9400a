/** Ed25519 keys: made, signed with, and named as people compare them (fingerprint, short code). */

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signRaw,
  verify as verifyRaw,
} from "node:crypto";
import { WaltError } from "../../errors.ts";
import { safeText } from "../../text.ts";
import { WireReader, WireWriter } from "./wire.ts";

/** The only key type there is in WalT VPN (RFC 8709). */
export const KEY_TYPE = "ssh-ed25519";

export interface PublicKey {
  /** SSH wire encoding (RFC 8709 section 4): string "ssh-ed25519", string of 32 bytes. 51 bytes in all. */
  readonly blob: Buffer;
  readonly comment: string;
}

export interface KeyPair {
  readonly publicKey: PublicKey;
  readonly privateKey: KeyObject;
}

/** Longest line of a public key or certificate that is looked at, in characters. */
export const MAX_LINE = 16_384;

/** A new key pair. */
export function generateKey(comment: string): KeyPair {
  const { privateKey } = generateKeyPairSync("ed25519");
  return keyPairOf(privateKey, comment);
}

/** The pair that belongs to node's own private key object. */
export function keyPairOf(privateKey: KeyObject, comment: string): KeyPair {
  const jwk = createPublicKey(privateKey).export({ format: "jwk" });
  return { publicKey: publicKeyOf(Buffer.from(String(jwk.x), "base64url"), comment), privateKey };
}

/** The pair of a 32-byte seed (RFC 8032 section 5.1.5). */
export function keyPairOfSeed(seed: Uint8Array, comment: string): KeyPair {
  // PKCS #8 of an Ed25519 key (RFC 8410 section 7) is this prefix and the seed.
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  return keyPairOf(createPrivateKey({ key: der, format: "der", type: "pkcs8" }), comment);
}

/** The 32-byte seed of a pair: its whole secret. */
export function seedOf(pair: KeyPair): Buffer {
  return Buffer.from(String(pair.privateKey.export({ format: "jwk" }).d), "base64url");
}

/** The public key of 32 raw bytes. */
export function publicKeyOf(raw: Uint8Array, comment: string): PublicKey {
  return { blob: new WireWriter().string(KEY_TYPE).string(raw).bytes(), comment };
}

/** The 32 raw bytes of a public key. */
export function rawPublicKey(key: PublicKey): Buffer {
  return key.blob.subarray(-32);
}

/**
 * A public key from its wire encoding.
 * @throws WaltError unless it is an ed25519 key.
 */
export function publicKeyOfBlob(blob: Uint8Array, comment: string): PublicKey {
  const reader = new WireReader(blob);
  const type = reader.text();
  if (type !== KEY_TYPE) throw new WaltError(`key type ${safeText(type, 40)} instead of ${KEY_TYPE}`);
  const raw = reader.string();
  if (raw.length !== 32) throw new WaltError(`an ed25519 key of ${raw.length} bytes instead of 32`);
  reader.end();
  return publicKeyOf(raw, comment);
}

/**
 * The two fields and the comment of a line `type base64 comment`, as in sshd(8), AUTHORIZED_KEYS FILE FORMAT,
 * without options. White space at both ends is ignored.
 * @throws WaltError naming `where` when it is anything else, another type, or longer than MAX_LINE.
 */
export function parseKeyLine(line: string, type: string, where: string): { blob: Buffer; comment: string } {
  const bad = (what: string) =>
    new WaltError(`${where}: ${what}`, { hint: `One line "${type} AAAA…" is expected.` });
  if (line.length > MAX_LINE) throw bad(`a line of ${line.length} characters is no key`);
  const match = /^([a-z0-9@.-]+) +([A-Za-z0-9+/]+={0,2})(?: +(.*))?$/.exec(line.trim());
  if (match === null) throw bad(`"${safeText(line, 40)}" is no key`);
  const [, found = "", base64 = "", comment = ""] = match;
  if (found !== type) throw bad(`key type ${safeText(found, 40)} instead of ${type}`);
  const blob = Buffer.from(base64, "base64");
  if (blob.toString("base64") !== base64) throw bad("the key's base64 is malformed");
  return { blob, comment: safeText(comment, 256) };
}

/**
 * A line of a `.pub` file: "ssh-ed25519 AAAA… comment".
 * @throws WaltError naming `where` when it is anything else.
 */
export function parsePublicKey(line: string, where: string): PublicKey {
  const { blob, comment } = parseKeyLine(line, KEY_TYPE, where);
  try {
    return publicKeyOfBlob(blob, comment);
  } catch (error) {
    throw error instanceof WaltError ? new WaltError(`${where}: ${error.message}`, { cause: error }) : error;
  }
}

/** "ssh-ed25519 AAAA… comment", without a line break. */
export function publicKeyLine(key: PublicKey): string {
  return [KEY_TYPE, key.blob.toString("base64"), safeText(key.comment, 256)].join(" ").trimEnd();
}

/** "SHA256:…" (base64 without padding), as `ssh-keygen -l` shows it. */
export function fingerprint(key: PublicKey): string {
  return fingerprintOfBlob(key.blob);
}

/** The fingerprint of a key of any type, from its wire encoding. */
export function fingerprintOfBlob(blob: Uint8Array): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

/** Crockford's base32: no I, L, O, U, so that it can be read aloud and compared on two screens. */
const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** The first 50 bits of SHA-256 of the key's wire encoding, as ten characters: "7KQ2M-X9ABC". */
export function shortCode(key: PublicKey): string {
  const digest = createHash("sha256").update(key.blob).digest();
  const bits = digest.readBigUInt64BE() >> 14n;
  let code = "";
  for (let i = 9n; i >= 0n; i--) {
    code += CROCKFORD.charAt(Number((bits >> (i * 5n)) & 31n));
    if (i === 5n) code += "-";
  }
  return code;
}

/** An Ed25519 signature: 64 raw bytes, without SSH's wrapping. */
export function sign(pair: KeyPair, data: Uint8Array): Buffer {
  return signRaw(null, data, pair.privateKey);
}

/** Whether 64 raw bytes are the key's signature of the data. Never throws. */
export function verify(key: PublicKey, data: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false;
  // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4) is this prefix and the key.
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), rawPublicKey(key)]);
  try {
    return verifyRaw(null, data, createPublicKey({ key: der, format: "der", type: "spki" }), signature);
  } catch {
    return false; // bytes that are no point of the curve
  }
}

/** Whether two public keys are the same; comments do not count. */
export function sameKey(a: PublicKey, b: PublicKey): boolean {
  return a.blob.equals(b.blob);
}
