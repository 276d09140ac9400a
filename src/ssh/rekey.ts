/**
 * New keys for a connection that ssh2 has given away: the server's side of a key exchange that the client began (RFC 4253 section 7,
 * RFC 8731), always curve25519-sha256, ssh-ed25519 and aes128-gcm, as in the first.
 */

import { createHash, createPublicKey, diffieHellman, generateKeyPairSync, randomBytes } from "node:crypto";
import { keyPairOfSeed, sign } from "./ed25519.ts";
import { IV_LENGTH, KEY_LENGTH, type Keys } from "./packets.ts";
import { SERVER_ALGORITHMS } from "./serve.ts";
import { WireReader, WireWriter } from "./wire.ts";

export const KEXINIT = 20;
export const NEWKEYS = 21;
export const ECDH_INIT = 30;
const ECDH_REPLY = 31;
const COOKIE = 16;
const POINT = 32;
/** SubjectPublicKeyInfo of an X25519 key (RFC 8410 section 4) is this prefix and the 32 bytes. */
const X25519 = Buffer.from("302a300506032b656e032100", "hex");

/** What all exchanges of a connection have in common. */
export interface Session {
  /** The first exchange's hash. */
  readonly id: Uint8Array;
  /** Both ends' first lines, without line break. */
  readonly clientVersion: Uint8Array;
  readonly serverVersion: Uint8Array;
  /** Of the server's host key, 32 bytes. */
  readonly hostSeed: Uint8Array;
}

export class Rekey {
  /** Our KEXINIT, which answers theirs. */
  readonly init: Buffer;
  readonly #theirs: Buffer;

  /**
   * @param theirs the payload of their KEXINIT.
   * @throws Error when it is malformed, or we have nothing in common.
   */
  constructor(
    readonly session: Session,
    theirs: Uint8Array,
  ) {
    this.#theirs = Buffer.from(theirs);
    const { kex, serverHostKey, cipher, hmac, compress } = SERVER_ALGORITHMS;
    const ours = [kex, serverHostKey, cipher, cipher, hmac, hmac, compress, compress, [], []];
    agree(this.#theirs, ours);
    const init = new WireWriter().u8(KEXINIT).raw(randomBytes(COOKIE));
    for (const names of ours) init.string(names.join(","));
    this.init = init.u8(0).u32(0).bytes();
  }

  /**
   * @param message the payload of their ECDH_INIT.
   * @returns our reply, and the keys of each direction.
   * @throws Error when it is malformed.
   */
  answer(message: Uint8Array): { reply: Buffer; fromClient: Keys; toClient: Keys } {
    const reader = new WireReader(message.subarray(1));
    const theirPoint = reader.string();
    reader.end();
    if (theirPoint.length !== POINT) throw new Error(`a point of ${theirPoint.length} bytes`);
    const ours = generateKeyPairSync("x25519");
    const ourPoint = ours.publicKey.export({ format: "der", type: "spki" }).subarray(-POINT);
    const der = Buffer.concat([X25519, theirPoint]);
    const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
    const shared = diffieHellman({ privateKey: ours.privateKey, publicKey });
    // RFC 8731 section 3: a point of small order gives this.
    if (shared.every((byte) => byte === 0)) throw new Error("a point that gives no secret");
    const { session } = this;
    const pair = keyPairOfSeed(session.hostSeed, "");
    const hostKey = pair.publicKey.blob;
    const secret = new WireWriter().string(integer(shared)).bytes();
    const hash = sha256(
      new WireWriter()
        .string(session.clientVersion)
        .string(session.serverVersion)
        .string(this.#theirs)
        .string(this.init)
        .string(hostKey)
        .string(theirPoint)
        .string(ourPoint)
        .raw(secret)
        .bytes(),
    );
    const derive = (letter: string, length: number): Uint8Array => {
      const parts = [secret, hash, Buffer.from(letter), session.id];
      return Uint8Array.from(sha256(Buffer.concat(parts)).subarray(0, length));
    };
    const signature = new WireWriter().string("ssh-ed25519").string(sign(pair, hash)).bytes();
    return {
      reply: new WireWriter().u8(ECDH_REPLY).string(hostKey).string(ourPoint).string(signature).bytes(),
      fromClient: { iv: derive("A", IV_LENGTH), key: derive("C", KEY_LENGTH) },
      toClient: { iv: derive("B", IV_LENGTH), key: derive("D", KEY_LENGTH) },
    };
  }
}

/** @throws Error unless every one of their lists has something of ours, and nothing was sent on a guess. */
function agree(payload: Buffer, ours: readonly (readonly string[])[]): void {
  const reader = new WireReader(payload.subarray(1 + COOKIE));
  for (const names of ours) {
    const theirs = reader.text().split(",");
    if (names.length > 0 && !names.some((name) => theirs.includes(name))) {
      throw new Error(`none of ${names.join(", ")}`);
    }
  }
  // We never asked for it, no client that is known does it, and what it sends might have to be thrown away.
  if (reader.u8() !== 0) throw new Error("a guessed key exchange");
  reader.u32();
  reader.end();
}

/** The bytes of an mpint (RFC 4251 section 5): no zeros in front but one where the first bit would be a sign. */
function integer(bytes: Buffer): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0);
  const short = bytes.subarray(first);
  return (short[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), short]) : short;
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
