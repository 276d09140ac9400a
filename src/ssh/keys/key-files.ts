/** Private keys on disk: OpenSSH's own format (PROTOCOL.key), unencrypted, and never readable by others. */

import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { WaltError } from "../../errors.ts";
import { readText, readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import {
  generateKey,
  KEY_TYPE,
  type KeyPair,
  keyPairOfSeed,
  MAX_LINE,
  publicKeyLine,
  publicKeyOfBlob,
  rawPublicKey,
  sameKey,
  seedOf,
} from "./ed25519.ts";
import { WireReader, WireWriter } from "./wire.ts";

const BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC = "openssh-key-v1\0";

/** The text of a private key file, without a passphrase. `ssh`, `ssh-keygen -y` and ssh2 read it. */
export function encodePrivateKey(pair: KeyPair): string {
  const raw = rawPublicKey(pair.publicKey);
  // Twice the same number: with a passphrase it would tell whether decryption went well.
  const check = randomBytes(4).readUInt32BE();
  const secret = new WireWriter()
    .u32(check)
    .u32(check)
    .string(KEY_TYPE)
    .string(raw)
    .string(Buffer.concat([seedOf(pair), raw]))
    .string(pair.publicKey.comment);
  for (let pad = 1; secret.bytes().length % 8 !== 0; pad++) secret.u8(pad);
  const all = new WireWriter()
    .raw(Buffer.from(MAGIC))
    .string("none")
    .string("none")
    .string("")
    .u32(1)
    .string(pair.publicKey.blob)
    .string(secret.bytes())
    .bytes();
  const lines = all.toString("base64").match(/.{1,70}/g) ?? [];
  return `${[BEGIN, ...lines, END].join("\n")}\n`;
}

/**
 * A private key from its file's text. `where` names it in errors; the text itself never appears in one.
 * @throws WaltError when it is malformed, encrypted, or no ed25519 key.
 */
export function parsePrivateKey(text: string, where: string): KeyPair {
  const bad = (what: string, cause?: unknown) =>
    new WaltError(`${where} is no private key that can be used: ${what}`, {
      hint: "An ed25519 key without a passphrase is expected, as `ssh-keygen -t ed25519 -N ''` makes it.",
      cause,
    });
  if (text.length > MAX_LINE) throw bad(`${text.length} characters`);
  const lines = text.trim().split(/\r?\n/);
  if (lines[0] !== BEGIN || lines.at(-1) !== END)
    throw bad(`it does not stand between "${BEGIN}" and its end`);
  const base64 = lines.slice(1, -1).join("");
  const bytes = Buffer.from(base64, "base64");
  if (bytes.toString("base64") !== base64) throw bad("its base64 is malformed");
  if (bytes.subarray(0, MAGIC.length).toString("latin1") !== MAGIC) throw bad("it has another format");
  try {
    return readPair(new WireReader(bytes.subarray(MAGIC.length)));
  } catch (error) {
    throw error instanceof WaltError ? bad(error.message, error) : error;
  }
}

function readPair(reader: WireReader): KeyPair {
  const [cipher, kdf] = [reader.text(), reader.text()];
  reader.string();
  if (cipher !== "none" || kdf !== "none") throw new WaltError("it has a passphrase");
  if (reader.u32() !== 1) throw new WaltError("it does not hold exactly one key");
  const outside = publicKeyOfBlob(reader.string(), "");
  const secret = new WireReader(reader.string());
  reader.end();
  const [check, again] = [secret.u32(), secret.u32()];
  if (check !== again) throw new WaltError("its check numbers differ");
  if (secret.text() !== KEY_TYPE) throw new WaltError(`it is no ${KEY_TYPE} key`);
  secret.string();
  const both = secret.string();
  if (both.length !== 64) throw new WaltError("its secret has another length");
  const pair = keyPairOfSeed(both.subarray(0, 32), secret.text());
  for (let pad = 1; secret.rest > 0; pad++) {
    if (secret.u8() !== (pad & 0xff)) throw new WaltError("its padding is malformed");
  }
  if (!sameKey(pair.publicKey, outside)) throw new WaltError("its public half belongs to another key");
  return pair;
}

/**
 * The key of a file.
 * @throws WaltError when it is missing, readable by group or others, or malformed.
 */
export function loadKey(path: string): KeyPair {
  const text = readText(path, MAX_LINE);
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o077) !== 0) {
    throw new WaltError(
      `${path} has mode ${mode.toString(8)}: others than its owner can use this private key`,
      {
        hint: `chmod 600 ${path}; and if somebody may have read it, remove it and ${path}.pub for a new one to be made.`,
      },
    );
  }
  return parsePrivateKey(text, path);
}

/**
 * The key of a file, made first where there is none: the private half at `path` (mode 0600), the public one at
 * `path`.pub (0644), each written whole or not at all.
 * @throws WaltError when it cannot be read or written, is readable by group or others, or is malformed.
 */
export function loadOrCreateKey(path: string, comment: string): KeyPair {
  let pair: KeyPair;
  if (readTextIfAny(path, MAX_LINE) === undefined) {
    pair = generateKey(comment);
    writeFileAtomic(path, encodePrivateKey(pair), { mode: 0o600, exclusive: true });
  } else {
    pair = loadKey(path);
  }
  // The public half is written again when it is missing or wrong, as after a power cut between the two.
  const line = `${publicKeyLine(pair.publicKey)}\n`;
  if (readTextIfAny(`${path}.pub`, MAX_LINE) !== line) writeFileAtomic(`${path}.pub`, line);
  return pair;
}
