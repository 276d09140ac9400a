/** OpenSSH user certificates for ed25519 keys: encoded, parsed, judged (OpenSSH's PROTOCOL.certkeys). */

import { randomBytes } from "node:crypto";
import { WaltError } from "../../errors.ts";
import { safeText } from "../../text.ts";
import {
  fingerprint,
  KEY_TYPE,
  type KeyPair,
  type PublicKey,
  parseKeyLine,
  publicKeyOf,
  publicKeyOfBlob,
  rawPublicKey,
  sameKey,
  sign,
  verify,
} from "./ed25519.ts";
import { WireReader, WireWriter } from "./wire.ts";

/** The principal that a proxy's authorized_keys wants in a certificate. */
export const VPN_PRINCIPAL = "walt-vpn";
/** The user of every SSH connection of WalT VPN, on proxies and at the server's endpoint. */
export const VPN_USER = "walt-vpn";
export const CERTIFICATE_TYPE = "ssh-ed25519-cert-v01@openssh.com";

/** Seconds by which the validity of our certificates begins early, because the clocks of proxies differ. */
export const BACKDATE = 3600;

/** SSH_CERT_TYPE_USER */
const USER_CERTIFICATE = 1;
/** The one extension of our certificates; without it no sshd would forward for its owner. */
const FORWARDING = "permit-port-forwarding";
/** Bytes. Ours have some 350; what is longer is not looked at. */
const MAX_BLOB = 8192;

export interface Certificate {
  readonly serial: bigint;
  readonly keyId: string;
  readonly principals: readonly string[];
  /** Seconds since the epoch; valid from this second on. */
  readonly validAfter: number;
  /** Seconds since the epoch; no longer valid in this second. "For ever" is Number.MAX_SAFE_INTEGER. */
  readonly validBefore: number;
  readonly criticalOptions: ReadonlyMap<string, Buffer>;
  readonly extensions: readonly string[];
  readonly publicKey: PublicKey;
  readonly ca: PublicKey;
  /** The bytes that the signature is for. */
  readonly signedPart: Buffer;
  /** 64 raw bytes. */
  readonly signature: Buffer;
  /** The whole, as it goes over the wire. */
  readonly blob: Buffer;
}

/** What is written into a certificate. Times in whole seconds since the epoch. */
export interface CertificateContent {
  publicKey: PublicKey;
  serial: bigint;
  keyId: string;
  principals: readonly string[];
  validAfter: number;
  validBefore: number;
}

/** A certificate line for a `-cert.pub` file, without a line break. It permits port forwarding and nothing else. */
export function signCertificate(ca: KeyPair, o: CertificateContent): string {
  const principals = new WireWriter();
  for (const principal of o.principals) principals.string(principal);
  const signedPart = new WireWriter()
    .string(CERTIFICATE_TYPE)
    .string(randomBytes(32))
    .string(rawPublicKey(o.publicKey))
    .u64(o.serial)
    .u32(USER_CERTIFICATE)
    .string(o.keyId)
    .string(principals.bytes())
    .u64(BigInt(o.validAfter))
    .u64(BigInt(o.validBefore))
    .string("") // critical options
    .string(new WireWriter().string(FORWARDING).string("").bytes())
    .string("") // reserved
    .string(ca.publicKey.blob)
    .bytes();
  const signature = new WireWriter().string(KEY_TYPE).string(sign(ca, signedPart)).bytes();
  const blob = new WireWriter().raw(signedPart).string(signature).bytes();
  return `${CERTIFICATE_TYPE} ${blob.toString("base64")} ${safeText(o.keyId, 256)}`;
}

/**
 * A certificate from its wire encoding. Its signature and validity are not judged here: see `refusalOf`.
 * @throws WaltError unless it is a well-formed user certificate for an ed25519 key by an ed25519 key.
 */
export function parseCertificate(bytes: Uint8Array): Certificate {
  if (bytes.length > MAX_BLOB) throw new WaltError(`a certificate of ${bytes.length} bytes is too long`);
  const blob = Buffer.from(bytes);
  const reader = new WireReader(blob);
  const type = reader.text();
  if (type !== CERTIFICATE_TYPE) {
    throw new WaltError(`certificate type ${safeText(type, 40)} instead of ${CERTIFICATE_TYPE}`);
  }
  reader.string(); // nonce
  const raw = reader.string();
  if (raw.length !== 32) throw new WaltError(`an ed25519 key of ${raw.length} bytes instead of 32`);
  const serial = reader.u64();
  const kind = reader.u32();
  if (kind !== USER_CERTIFICATE) throw new WaltError(`a certificate of kind ${kind} is no user certificate`);
  const keyId = reader.text();
  const principals = texts(reader.string());
  const [validAfter, validBefore] = [seconds(reader.u64()), seconds(reader.u64())];
  const criticalOptions = options(reader.string());
  const extensions = [...options(reader.string()).keys()];
  reader.string(); // reserved
  const ca = publicKeyOfBlob(reader.string(), "");
  const signedPart = blob.subarray(0, blob.length - reader.rest);
  const wrapped = new WireReader(reader.string());
  reader.end();
  const algorithm = wrapped.text();
  const signature = wrapped.string();
  wrapped.end();
  if (algorithm !== KEY_TYPE || signature.length !== 64) {
    throw new WaltError("the certificate's signature is no ed25519 signature");
  }
  const publicKey = publicKeyOf(raw, "");
  return {
    ...{ serial, keyId, principals, validAfter, validBefore, criticalOptions, extensions },
    ...{ publicKey, ca, signedPart, signature, blob },
  };
}

/**
 * A certificate from a line `ssh-ed25519-cert-v01@openssh.com AAAA… comment`.
 * @throws WaltError naming `where` when it is anything else.
 */
export function parseCertificateLine(line: string, where: string): Certificate {
  const { blob } = parseKeyLine(line, CERTIFICATE_TYPE, where);
  try {
    return parseCertificate(blob);
  } catch (error) {
    throw error instanceof WaltError ? new WaltError(`${where}: ${error.message}`, { cause: error }) : error;
  }
}

/**
 * Why a certificate is not to be accepted, in words; undefined when it is valid. `now` in seconds since the epoch.
 * As sshd does, any critical option that is not known is a reason: we know none.
 */
export function refusalOf(
  c: Certificate,
  o: { ca: PublicKey; principal: string; now: number },
): string | undefined {
  if (!sameKey(c.ca, o.ca)) return `signed by another authority (${fingerprint(c.ca)})`;
  if (!verify(c.ca, c.signedPart, c.signature)) return "its signature is wrong";
  if (!c.principals.includes(o.principal)) return `not for the principal ${o.principal}`;
  if (o.now < c.validAfter) return `not valid before ${date(c.validAfter)}`;
  if (o.now >= c.validBefore) return `expired at ${date(c.validBefore)}`;
  const [option] = c.criticalOptions.keys();
  if (option !== undefined)
    return `it has the critical option ${safeText(option, 40)}, which is not known here`;
  if (!c.extensions.includes(FORWARDING)) return "it does not permit port forwarding";
  return undefined;
}

/** A time of a certificate, in seconds since the epoch, in words. */
export function date(s: number): string {
  return s > 8.64e12 ? "the end of time" : new Date(s * 1000).toISOString();
}

function seconds(n: bigint): number {
  return n > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(n);
}

function texts(bytes: Buffer): string[] {
  const reader = new WireReader(bytes);
  const list: string[] = [];
  while (reader.rest > 0) list.push(reader.text());
  return list;
}

/** Names in ascending order, each once (PROTOCOL.certkeys), with their data. */
function options(bytes: Buffer): Map<string, Buffer> {
  const reader = new WireReader(bytes);
  const map = new Map<string, Buffer>();
  let last: string | undefined;
  while (reader.rest > 0) {
    const name = reader.text();
    if (last !== undefined && name <= last) throw new WaltError("the certificate's options are out of order");
    map.set(name, reader.string());
    last = name;
  }
  return map;
}
