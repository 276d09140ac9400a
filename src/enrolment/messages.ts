/**
 * What device and server say to each other while a device gets its credentials (docs/protocol.md,
 * "Enrolment"). JSON lines on the channel of an exec; each at most MAX_LINE bytes; the server speaks first.
 */

import { WaltError } from "../errors.ts";
import { Fields, MAC, NODE_NAME } from "../parse.ts";
import {
  type KeyPair,
  type PublicKey,
  parsePublicKey,
  publicKeyLine,
  sign,
  verify,
} from "../ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../ssh/keys/key-files.ts";
import { WireWriter } from "../ssh/keys/wire.ts";
import { plainText, safeText } from "../text.ts";

/** Longest line either side sends, in bytes. */
export const MAX_LINE = 8192;
export const ENROLMENT_VERSION = 1;
const CERTIFICATE = /^ssh-ed25519-cert-v01@openssh\.com [A-Za-z0-9+/=]+$/;
/** Length of the server's challenge, in bytes. */
export const CHALLENGE_LENGTH = 32;

/** The board that asks, as it describes itself. Nothing of it is proven but the key. */
export interface Board {
  /** MAC address of its wired network card. */
  mac: string;
  model: string;
  serialNumber: string;
}

/** A parsed request whose signature was checked: the asker holds the private half of `publicKey`. */
export interface EnrolmentRequest extends Board {
  publicKey: PublicKey;
  /** The token on its card (token.ts), valid or not; undefined when there is none. */
  token?: string | undefined;
}

/** The keys of the server that a board has to know. */
export interface ServerKeysSaid {
  /** Public host keys, `ssh-ed25519 AAAA…`: one, and during a rotation two. */
  hostKeys: string[];
  /** Private enrolment keys, PEM: the newest first. */
  enrolmentKeys: string[];
}

/** What an accepted device is given. */
export interface Grant {
  /** The node's default name, which stays as long as the device is registered. */
  node: string;
  /** What operators call the node; undefined when it has no other name. */
  name?: string | undefined;
  /** MAC address of the node's network card. */
  mac: string;
  /** `ssh-ed25519-cert-v01@openssh.com AAAA…`, without a comment. */
  certificate: string;
  /** The same of the CA that is to take the place of the present one; undefined while there is none. */
  nextCertificate?: string | undefined;
  /** The keys of the server that are good from now on; undefined of a server that does not say so. */
  serverKeys?: ServerKeysSaid | undefined;
  /** Seconds after which to ask for the next certificate; the device's clock need not be right. */
  renewAfter: number;
}

export const DENIALS = ["nobody-watching", "operator", "timeout", "revoked", "busy", "invalid"] as const;
export type DenialReason = (typeof DENIALS)[number];

export interface Denial {
  reason: DenialReason;
  message: string;
  /** Seconds to wait before asking again. */
  retryAfter: number;
  /**
   * The device is to forget its key, and to ask with a new one. Only of a device that is revoked; a device that
   * is older than this does not see it.
   */
  forget?: boolean | undefined;
}

export type Reply = { type: "pending" } | ({ type: "granted" } & Grant) | ({ type: "denied" } & Denial);

function signedBytes(challenge: Uint8Array, board: Board, key: PublicKey): Buffer {
  return new WireWriter()
    .string("walt-enrolment-1")
    .string(challenge)
    .string(board.mac)
    .string(board.model)
    .string(board.serialNumber)
    .string(key.blob)
    .bytes();
}

export function encodeChallenge(challenge: Uint8Array): string {
  return `${JSON.stringify({ walt: "enrolment", version: ENROLMENT_VERSION, challenge: Buffer.from(challenge).toString("base64") })}\n`;
}

/** @throws WaltError when it is no challenge of a version that we speak. */
export function parseChallenge(line: string): Buffer {
  const fields = Fields.parse(line, "the server's greeting", MAX_LINE);
  fields.choice("walt", ["enrolment"]);
  const version = fields.integer("version", 1, 1000);
  if (version !== ENROLMENT_VERSION) {
    throw new WaltError(
      `the server speaks version ${version} of the enrolment protocol, this device ${ENROLMENT_VERSION}`,
      {
        hint: "Install the same version of walt on both.",
      },
    );
  }
  return fields.base64("challenge", CHALLENGE_LENGTH);
}

/** @param token of the device's card, if it has one */
export function encodeRequest(board: Board, key: KeyPair, challenge: Uint8Array, token?: string): string {
  const signature = sign(key, signedBytes(challenge, board, key.publicKey));
  const request = {
    version: ENROLMENT_VERSION,
    ...board,
    publicKey: publicKeyLine(key.publicKey),
    signature: signature.toString("base64"),
    ...(token === undefined ? {} : { token }),
  };
  return `${JSON.stringify(request)}\n`;
}

/** @throws WaltError when anything is missing, out of bounds, or not signed by the key that it names. */
export function parseRequest(line: string, challenge: Uint8Array): EnrolmentRequest {
  const fields = Fields.parse(line, "enrolment request", MAX_LINE);
  fields.integer("version", ENROLMENT_VERSION, ENROLMENT_VERSION);
  const raw = {
    mac: fields.text("mac", 17, MAC),
    model: fields.text("model", 100),
    serialNumber: fields.text("serialNumber", 64),
  };
  const publicKey = parsePublicKey(fields.text("publicKey", 400), "enrolment request: publicKey");
  if (!verify(publicKey, signedBytes(challenge, raw, publicKey), fields.base64("signature", 64))) {
    throw new WaltError("enrolment request: the signature does not belong to the public key");
  }
  const [model, serialNumber] = [plainText(raw.model), plainText(raw.serialNumber)];
  return {
    mac: raw.mac,
    model,
    serialNumber,
    publicKey,
    ...fields.optional("token", (key) => fields.text(key, 200)),
  };
}

export function encodeReply(reply: Reply): string {
  return `${JSON.stringify(reply)}\n`;
}

/** @throws WaltError when it is none of the three replies. */
export function parseReply(line: string): Reply {
  const fields = Fields.parse(line, "the server's reply", MAX_LINE);
  const type = fields.choice("type", ["pending", "granted", "denied"]);
  if (type === "pending") return { type };
  if (type === "denied") {
    return {
      type,
      reason: fields.choice("reason", DENIALS),
      message: safeText(fields.text("message", 300), 300),
      retryAfter: fields.integer("retryAfter", 1, 86_400),
      ...fields.optional("forget", (key) => fields.boolean(key)),
    };
  }
  return {
    type,
    node: fields.text("node", 32, NODE_NAME),
    ...fields.optional("name", (key) => fields.text(key, 32, NODE_NAME)),
    mac: fields.text("mac", 17, MAC),
    certificate: fields.text("certificate", 4096, CERTIFICATE),
    ...fields.optional("nextCertificate", (key) => fields.text(key, 4096, CERTIFICATE)),
    ...fields.optional("serverKeys", (key) => parseServerKeys(fields.object(key))),
    renewAfter: fields.integer("renewAfter", 1, 10 * 365 * 86_400),
  };
}

/** @throws WaltError when one is no ed25519 key. */
export function parseServerKeys(fields: Fields): ServerKeysSaid {
  const texts = (key: string, max: number): string[] =>
    fields.array(key, 2).map((one) => new Fields({ [key]: one }, fields.where).text(key, max));
  return {
    hostKeys: texts("hostKeys", 400).map((line) =>
      publicKeyLine(parsePublicKey(line, "the server's host key")),
    ),
    enrolmentKeys: texts("enrolmentKeys", 1000).map((text) => {
      parsePrivateKey(text, "the enrolment key from the server");
      return text;
    }),
  };
}

/** What a device says once its grant is on its disk. A server that is older than this does not wait for it. */
export const STORED = `${JSON.stringify({ type: "stored" })}\n`;

/** @throws WaltError when it is something else. */
export function parseStored(line: string): void {
  Fields.parse(line, "the device's confirmation", MAX_LINE).choice("type", ["stored"]);
}
