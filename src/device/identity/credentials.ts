/** What a device was given when it was accepted, on its disk: the certificate, and `credentials.json`, the commit mark. */

import { rmSync } from "node:fs";
import type { Grant } from "../../enrolment/messages.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny, syncFolder, writeFileAtomic } from "../../linux/files.ts";
import { Fields, MAC, NODE_NAME } from "../../parse.ts";
import { parseCertificateLine, VPN_PRINCIPAL } from "../../ssh/keys/certificate.ts";
import { type PublicKey, sameKey } from "../../ssh/keys/ed25519.ts";
import type { DeviceFiles } from "../files.ts";

export interface Credentials {
  node: string;
  /** MAC address of the node's network card. */
  mac: string;
  /** Seconds after which to renew the certificate. */
  renewAfter: number;
  /** When they were written, by the device's own clock, which may be wrong: for people. ISO 8601. */
  writtenAt: string;
}

type Files = Pick<DeviceFiles, "state" | "certificate" | "credentials">;

/**
 * The credentials on the disk, or undefined where there are none: never given, forgotten, or damaged (the device then asks
 * again with the same key, and the server grants a key that it knows at once).
 * @param damaged is told what is wrong with credentials that are there.
 */
export function readCredentials(
  files: Files,
  key: PublicKey,
  damaged: (why: string) => void,
): Credentials | undefined {
  const text = readTextIfAny(files.credentials, 8192);
  if (text === undefined) return undefined;
  try {
    const fields = Fields.parse(text, files.credentials);
    const credentials = {
      node: fields.text("node", 32, NODE_NAME),
      mac: fields.text("mac", 17, MAC),
      renewAfter: fields.integer("renewAfter", 1, 10 * 365 * 86_400),
      writtenAt: fields.text("writtenAt", 40),
    };
    const line = readTextIfAny(files.certificate, 8192);
    if (line === undefined) throw new WaltError(`${files.certificate} does not exist`);
    checkCertificate(line, key, files.certificate);
    return credentials;
  } catch (error) {
    damaged(messageOf(error));
    return undefined;
  }
}

/**
 * That a certificate is one for us.
 * @throws WaltError when it is malformed, for another key, or for another purpose.
 */
export function checkCertificate(line: string, key: PublicKey, where: string): void {
  const certificate = parseCertificateLine(line, where);
  if (!sameKey(certificate.publicKey, key)) {
    throw new WaltError(`${where} is a certificate for another key than this device's`);
  }
  if (!certificate.principals.includes(VPN_PRINCIPAL)) {
    throw new WaltError(`${where} is a certificate that no proxy accepts: it is not for "${VPN_PRINCIPAL}"`);
  }
}

/** Write what was granted; after a power cut at any moment it is as if it was written whole, or not at all. */
export function writeCredentials(files: Files, grant: Grant, now = new Date()): Credentials {
  const { node, mac, renewAfter } = grant;
  const credentials = { node, mac, renewAfter, writtenAt: now.toISOString() };
  writeFileAtomic(files.certificate, `${grant.certificate}\n`);
  writeFileAtomic(files.credentials, `${JSON.stringify(credentials)}\n`, { mode: 0o600 });
  return credentials;
}

/**
 * Delete the device's key and all that it was given; the paths of what there was. The commit mark goes first.
 * @throws WaltError when one cannot be deleted.
 */
export function removeCredentials(files: Files & Pick<DeviceFiles, "deviceKey">): string[] {
  const removed: string[] = [];
  for (const file of [files.credentials, files.certificate, files.deviceKey, `${files.deviceKey}.pub`]) {
    try {
      rmSync(file);
      removed.push(file);
    } catch (error) {
      if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR"))
        continue;
      throw new WaltError(`cannot delete ${file}: ${messageOf(error)}`, { cause: error });
    }
  }
  if (removed.length > 0) syncFolder(files.state);
  return removed;
}
