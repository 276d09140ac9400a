/**
 * The credentials on the device's disk: the certificate, and `credentials.json`, which is written last and
 * deleted first, so that credentials count as complete only when it is there.
 */

import { rmSync } from "node:fs";
import type { Grant } from "../../enrolment/messages.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny, syncFolder, writeFileAtomic } from "../../linux/files.ts";
import { Fields, MAC, NODE_NAME } from "../../parse.ts";
import { parseCertificateLine, VPN_PRINCIPAL } from "../../ssh/keys/certificate.ts";
import { type PublicKey, sameKey } from "../../ssh/keys/ed25519.ts";
import type { DeviceFiles } from "../files.ts";

/** What ssh shows of the device key. */
export const DEVICE_KEY_COMMENT = "walt-device";

/** The content of `credentials.json`. */
export interface Credentials {
  /** The node's default name, which every certificate repeats. */
  node: string;
  /** What operators call the node; undefined when it has no other name. */
  name?: string | undefined;
  /** MAC address of the node's network card. */
  mac: string;
  /** Seconds after which the certificate is to be renewed, counted from when it was received. */
  renewAfter: number;
  /** When this was written, in ISO 8601, for people: the device's clock may be wrong. */
  writtenAt: string;
}

type Files = Pick<DeviceFiles, "state" | "certificate" | "nextCertificate" | "credentials">;

/**
 * The credentials on the disk; undefined when there are none, or when they are damaged. The device then asks
 * for access with the same key, and the server grants it at once if it knows the key.
 * @param key the public key of this device.
 * @param damaged called with the reason when there are credentials that are damaged.
 * @throws WaltError when `credentials.json` cannot be read.
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
      ...fields.optional("name", (key) => fields.text(key, 32, NODE_NAME)),
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
 * Check that a certificate is for this device.
 * @param line the certificate as a line of OpenSSH.
 * @param where where it came from, for messages.
 * @throws WaltError when it is malformed, or when it is for another key or another purpose.
 */
export function checkCertificate(line: string, key: PublicKey, where: string): void {
  const certificate = parseCertificateLine(line, where);
  if (!sameKey(certificate.publicKey, key)) {
    throw new WaltError(`${where} is a certificate for another key than this device's`);
  }
  if (!certificate.principals.includes(VPN_PRINCIPAL)) {
    throw new WaltError(
      `${where} is a certificate that proxies refuse: its principals lack "${VPN_PRINCIPAL}"`,
    );
  }
}

/**
 * Write the credentials of a grant to the disk, and return them. After a power cut they are there completely
 * or not at all.
 * @param now the current time; tests give another one.
 * @throws WaltError when a file cannot be written.
 */
export function writeCredentials(files: Files, grant: Grant, now = new Date()): Credentials {
  const { node, name, mac, renewAfter } = grant;
  const credentials = {
    node,
    ...(name === undefined ? {} : { name }),
    ...{ mac, renewAfter, writtenAt: now.toISOString() },
  };
  writeFileAtomic(files.certificate, `${grant.certificate}\n`);
  if (grant.nextCertificate === undefined) rmSync(files.nextCertificate, { force: true });
  else writeFileAtomic(files.nextCertificate, `${grant.nextCertificate}\n`);
  writeFileAtomic(files.credentials, `${JSON.stringify(credentials)}\n`, { mode: 0o600 });
  return credentials;
}

/**
 * Delete the credentials and the device key; `credentials.json` is deleted first.
 * @returns the paths of the files that were there.
 * @throws WaltError when a file cannot be deleted.
 */
export function removeCredentials(files: Files & Pick<DeviceFiles, "deviceKey">): string[] {
  const removed: string[] = [];
  for (const file of [
    files.credentials,
    files.certificate,
    files.nextCertificate,
    files.deviceKey,
    `${files.deviceKey}.pub`,
  ]) {
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
