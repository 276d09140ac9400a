/** The server's part of ssh-userauth (RFC 4252): nothing but `publickey`, probe and proof. It does no I/O. */

import { CERTIFICATE_TYPE } from "../keys/certificate.ts";
import { KEY_TYPE, type PublicKey } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { MESSAGE } from "./message-numbers.ts";
import { type Offer, verifyOffer } from "./offered-key.ts";

/** A key that has been offered, or proven to be held. */
export type GoodOffer = Exclude<Offer, { kind: "refused" }>;
export type SignedOffer = Extract<Offer, { kind: "signed" }>;

/**
 * Why a user may not come in with this key, in words for the log; undefined when it may. Asked for probes,
 * too.
 */
export type Authorise = (user: string, offer: GoodOffer) => string | undefined;

/** What became of a request: the message to answer it with, and who is in or what was refused. */
export type Attempt =
  | { kind: "in"; reply: Buffer; offer: SignedOffer }
  | { kind: "probe"; reply: Buffer }
  | { kind: "refused"; reply: Buffer; user: string; reason: string; key?: PublicKey }
  /** The method "none", with which clients ask what there is. */
  | { kind: "asked"; reply: Buffer };

const FAILURE = new WireWriter().u8(MESSAGE.authFailure).string("publickey").u8(0).bytes();

/**
 * Judge one request.
 * @param id the session's, which a signature has to be for.
 * @throws WaltError when it is malformed.
 */
export function attempt(payload: Uint8Array, id: Uint8Array, authorise: Authorise): Attempt {
  const reader = new WireReader(payload.subarray(1));
  const user = reader.text();
  const service = reader.text();
  const method = reader.text();
  if (method === "none") return { kind: "asked", reply: FAILURE };
  const refused = (reason: string, key?: PublicKey): Attempt => ({
    ...{ kind: "refused", reply: FAILURE, user, reason },
    ...(key === undefined ? {} : { key }),
  });
  if (service !== "ssh-connection") return refused("another service than ssh-connection");
  if (method !== "publickey") return refused("another method than publickey");
  const signed = reader.u8() !== 0;
  const algo = reader.text();
  const data = reader.string();
  const blob = signed ? signedBytes(id, payload, payload.length - reader.rest) : undefined;
  const signature = signed ? reader.string() : undefined;
  reader.end();
  const offer = verifyOffer({ key: { algo, data }, signature, blob });
  if (offer.kind === "refused") return refused(offer.reason);
  const reason = authorise(user, offer);
  if (reason !== undefined) return refused(reason, offer.key);
  if (offer.kind === "signed") return { kind: "in", reply: Buffer.of(MESSAGE.authSuccess), offer };
  const reply = new WireWriter().u8(MESSAGE.authKeyOk).string(algo).string(data).bytes();
  return { kind: "probe", reply };
}

/** What the signature is for (RFC 4252 section 7): the session's id, and the request up to the signature. */
function signedBytes(id: Uint8Array, payload: Uint8Array, end: number): Buffer {
  return new WireWriter().string(id).raw(payload.subarray(0, end)).bytes();
}

/** Bytes of the longest request: with a certificate of 8 KiB, the most that is looked at (certificate.ts). */
export const REQUEST_MAX = 8192 + 512 + CERTIFICATE_TYPE.length + KEY_TYPE.length;
