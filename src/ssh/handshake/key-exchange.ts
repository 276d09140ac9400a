/**
 * A key exchange (RFC 4253 section 7, RFC 8731), always curve25519-sha256, ssh-ed25519 and aes128-gcm: the
 * first of a connection, and new keys later. Client and server say the same, but for the two messages in the
 * middle.
 */

import {
  createHash,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
} from "node:crypto";
import { keyPairOfSeed, publicKeyOfBlob, sign, verify } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { ALGORITHMS } from "./algorithms.ts";
import { MESSAGE } from "./message-numbers.ts";
import { IV_LENGTH, KEY_LENGTH, type Keys } from "./packet-cipher.ts";

const COOKIE = 16;
const POINT = 32;
/** How each end offers strict key exchange, in its first KEXINIT (OpenSSH's PROTOCOL section 1.9). */
const STRICT = { client: "kex-strict-c-v00@openssh.com", server: "kex-strict-s-v00@openssh.com" } as const;
/** SubjectPublicKeyInfo of an X25519 key (RFC 8410 section 4) is this prefix and the 32 bytes. */
const X25519 = Buffer.from("302a300506032b656e032100", "hex");

/** What all exchanges of a connection have in common. */
export interface KexContext {
  /** The first exchange's hash; undefined in it. */
  readonly id: Uint8Array | undefined;
  /**
   * Both ends offered strict key exchange in the first one (OpenSSH's PROTOCOL section 1.9): packets are
   * counted from 0 again after each NEWKEYS. Undecided, so false, in the first exchange itself.
   */
  readonly strict: boolean;
  /** Both ends' version lines, without line break. */
  readonly clientVersion: Uint8Array;
  readonly serverVersion: Uint8Array;
  /**
   * Which end we are, and the server's host key: on the server its seed, on the client which it may be, in
   * wire encoding.
   */
  readonly role: { end: "server"; hostSeed: Uint8Array } | { end: "client"; hostKeys: readonly Uint8Array[] };
}

/** Of a finished exchange: its hash, and what each direction is encrypted with from NEWKEYS on. */
export interface NewKeys {
  readonly hash: Uint8Array;
  readonly incoming: Keys;
  readonly outgoing: Keys;
}

/** The server shows a key that is not one of those it may have. */
export class WrongHostKey extends Error {
  constructor(readonly blob: Uint8Array) {
    super("another host key");
  }
}

export class KeyExchange {
  /** Our KEXINIT. */
  readonly init: Buffer;
  /**
   * The first exchange of a connection, and both ends offer strict key exchange in it. Known once it has
   * begun.
   */
  strict = false;
  /** Made when first needed: most half-open connections to a server never get so far. */
  #ephemeral: { privateKey: KeyObject; point: Buffer } | undefined;
  #theirs: Buffer | undefined;

  constructor(readonly session: KexContext) {
    const init = new WireWriter().u8(MESSAGE.kexInit).raw(randomBytes(COOKIE));
    const strict = session.id === undefined ? [STRICT[session.role.end]] : [];
    for (const [i, names] of LISTS.entries()) init.string([...names, ...(i === 0 ? strict : [])].join(","));
    this.init = init.u8(0).u32(0).bytes();
  }

  /** Their KEXINIT came. */
  get begun(): boolean {
    return this.#theirs !== undefined;
  }

  /** @param payload of their KEXINIT. @throws Error when it is malformed, or we have nothing in common. */
  begin(payload: Uint8Array): void {
    if (this.#theirs !== undefined) throw new Error("a second KEXINIT in a key exchange");
    const { id, role } = this.session;
    const kex = agree(payload);
    this.strict = id === undefined && kex.includes(STRICT[role.end === "server" ? "client" : "server"]);
    this.#theirs = Buffer.from(payload);
  }

  /** The client's ECDH_INIT, once it has begun. */
  ask(): Buffer {
    return new WireWriter().u8(MESSAGE.ecdhInit).string(this.#own.point).bytes();
  }

  get #own(): { privateKey: KeyObject; point: Buffer } {
    if (this.#ephemeral === undefined) {
      const { privateKey, publicKey } = generateKeyPairSync("x25519");
      const point = publicKey.export({ format: "der", type: "spki" }).subarray(-POINT);
      this.#ephemeral = { privateKey, point };
    }
    return this.#ephemeral;
  }

  /** The server's ECDH_REPLY to the payload of an ECDH_INIT. @throws Error when it is malformed. */
  answer(message: Uint8Array): NewKeys & { reply: Buffer } {
    const { role } = this.session;
    if (role.end !== "server") throw new Error("a question that only servers are asked");
    const reader = new WireReader(message.subarray(1));
    const theirs = reader.string();
    reader.end();
    const host = keyPairOfSeed(role.hostSeed, "");
    const { blob } = host.publicKey;
    const { secret, hash } = this.#agreed(theirs, blob, theirs, this.#own.point);
    const signature = new WireWriter().string("ssh-ed25519").string(sign(host, hash)).bytes();
    const reply = new WireWriter()
      .u8(MESSAGE.ecdhReply)
      .string(blob)
      .string(this.#own.point)
      .string(signature)
      .bytes();
    return { ...this.#keys(secret, hash), reply };
  }

  /** What the payload of an ECDH_REPLY makes. @throws Error when it is malformed, or not the server's. */
  finish(message: Uint8Array): NewKeys {
    const { role } = this.session;
    if (role.end !== "client") throw new Error("an answer that only clients get");
    const reader = new WireReader(message.subarray(1));
    const blob = reader.string();
    const theirs = reader.string();
    const signature = new WireReader(reader.string());
    reader.end();
    const type = signature.text();
    const raw = signature.string();
    signature.end();
    if (!role.hostKeys.some((key) => blob.equals(key))) throw new WrongHostKey(blob);
    const { secret, hash } = this.#agreed(theirs, blob, this.#own.point, theirs);
    if (type !== "ssh-ed25519" || !verify(publicKeyOfBlob(blob, ""), hash, raw)) {
      throw new Error("a wrong signature");
    }
    return this.#keys(secret, hash);
  }

  /** The secret as an mpint, and the exchange's hash (RFC 5656 section 4). */
  #agreed(
    point: Buffer,
    hostKey: Buffer,
    clientPoint: Buffer,
    serverPoint: Buffer,
  ): { secret: Buffer; hash: Buffer } {
    if (this.#theirs === undefined) throw new Error("a key exchange that nobody began");
    if (point.length !== POINT) throw new Error(`a point of ${point.length} bytes`);
    const der = Buffer.concat([X25519, point]);
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    const shared = diffieHellman({ privateKey: this.#own.privateKey, publicKey });
    // RFC 8731 section 3: a point of small order gives this.
    if (shared.every((byte) => byte === 0)) throw new Error("a point that gives no secret");
    const { clientVersion, serverVersion, role } = this.session;
    const [clientInit, serverInit] =
      role.end === "server" ? [this.#theirs, this.init] : [this.init, this.#theirs];
    const secret = new WireWriter().string(integer(shared)).bytes();
    const hash = sha256(
      new WireWriter()
        .string(clientVersion)
        .string(serverVersion)
        .string(clientInit)
        .string(serverInit)
        .string(hostKey)
        .string(clientPoint)
        .string(serverPoint)
        .raw(secret)
        .bytes(),
    );
    return { secret, hash };
  }

  #keys(secret: Buffer, hash: Buffer): NewKeys {
    const derive = (letter: string, length: number): Uint8Array => {
      const parts = [secret, hash, Buffer.from(letter), this.session.id ?? hash];
      return Uint8Array.from(sha256(Buffer.concat(parts)).subarray(0, length));
    };
    const fromClient = { iv: derive("A", IV_LENGTH), key: derive("C", KEY_LENGTH) };
    const fromServer = { iv: derive("B", IV_LENGTH), key: derive("D", KEY_LENGTH) };
    return this.session.role.end === "server"
      ? { hash, incoming: fromClient, outgoing: fromServer }
      : { hash, incoming: fromServer, outgoing: fromClient };
  }
}

/** The lists of a KEXINIT, in its order; the last two are languages. */
const LISTS: readonly (readonly string[])[] = [
  ALGORITHMS.kex,
  ALGORITHMS.serverHostKey,
  ...[ALGORITHMS.cipher, ALGORITHMS.cipher],
  ...[ALGORITHMS.hmac, ALGORITHMS.hmac],
  ...[ALGORITHMS.compress, ALGORITHMS.compress],
  ...[[], []],
];

/**
 * @returns their key exchange methods, among which are names that only mark what they can do.
 * @throws Error unless every one of their lists has something of ours, and nothing was sent on a guess.
 */
function agree(payload: Uint8Array): readonly string[] {
  const reader = new WireReader(payload.subarray(1 + COOKIE));
  let kex: readonly string[] | undefined;
  for (const names of LISTS) {
    const theirs = reader.text().split(",");
    kex ??= theirs;
    // AES-GCM has its own, so whatever they would have does not matter (OpenSSH's PROTOCOL section 1.6).
    if (names === ALGORITHMS.hmac) continue;
    if (names.length > 0 && !names.some((name) => theirs.includes(name))) {
      throw new Error(`none of ${names.join(", ")}`);
    }
  }
  // We never ask for it, no program that is known does it, and what it sends might have to be thrown away.
  if (reader.u8() !== 0) throw new Error("a guessed key exchange");
  reader.u32();
  reader.end();
  return kex ?? [];
}

/**
 * The bytes of an mpint (RFC 4251 section 5): no zeros in front but one where the first bit would be a sign.
 */
function integer(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const short = bytes.subarray(first);
  return (short[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), short]) : short;
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
