/** Who is behind a key that a client offers: the key's owner, if the signature is his. */

import { messageOf } from "../../errors.ts";
import { safeText } from "../../text.ts";
import { CERTIFICATE_TYPE, type Certificate, parseCertificate } from "../keys/certificate.ts";
import { KEY_TYPE, type PublicKey, publicKeyOfBlob, verify } from "../keys/ed25519.ts";
import { WireReader } from "../keys/wire.ts";

/**
 * A key that a client offered. "probe": it asks whether this key would do, and has proven nothing. "signed":
 * it holds the private key. "refused": anything else, with the reason in words, fit for a log. For a
 * certificate, `key` is the key in it; the certificate itself is still to be judged with `refusalOf`.
 */
export type Offer =
  | { kind: "probe"; key: PublicKey; blob: Buffer; certificate?: Certificate }
  | { kind: "signed"; key: PublicKey; blob: Buffer; certificate?: Certificate }
  | { kind: "refused"; reason: string };

/** A `publickey` request (RFC 4252 section 7). */
export interface OfferContext {
  /** The algorithm's name, and the key or certificate in wire encoding. */
  key: { algo: string; data: Buffer };
  /** As it was sent (string "ssh-ed25519", string of 64 bytes), or these 64 bytes alone; a probe has none. */
  signature?: Buffer | undefined;
  /** What the signature has to be for: the session's id and the request. */
  blob?: Buffer | undefined;
}

/** Judge an offered key. Never throws. */
export function verifyOffer(ctx: OfferContext): Offer {
  let key: PublicKey;
  let certificate: Certificate | undefined;
  try {
    if (ctx.key.algo === KEY_TYPE) {
      key = publicKeyOfBlob(ctx.key.data, "");
    } else if (ctx.key.algo === CERTIFICATE_TYPE) {
      certificate = parseCertificate(ctx.key.data);
      key = certificate.publicKey;
    } else {
      return { kind: "refused", reason: `key type ${safeText(String(ctx.key.algo), 40)}` };
    }
  } catch (error) {
    return { kind: "refused", reason: messageOf(error) };
  }
  const offer = { key, blob: ctx.key.data, ...(certificate === undefined ? {} : { certificate }) };
  if (ctx.signature === undefined) return { kind: "probe", ...offer };
  const signature = rawSignature(ctx.signature);
  if (ctx.blob === undefined || signature === undefined || !verify(key, ctx.blob, signature)) {
    return { kind: "refused", reason: "the signature is wrong" };
  }
  return { kind: "signed", ...offer };
}

/** The 64 bytes of an ed25519 signature, with or without its wrapping. */
function rawSignature(signature: Buffer): Buffer | undefined {
  if (signature.length === 64) return signature;
  try {
    const reader = new WireReader(signature);
    if (reader.text() !== KEY_TYPE) return undefined;
    const raw = reader.string();
    reader.end();
    return raw.length === 64 ? raw : undefined;
  } catch {
    return undefined;
  }
}
