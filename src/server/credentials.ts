/** Certificates for registered devices. */

import type { Grant } from "../enrolment/messages.ts";
import { signCertificate, VPN_PRINCIPAL } from "../ssh/keys/certificate.ts";
import { type KeyPair, parsePublicKey } from "../ssh/keys/ed25519.ts";
import type { Device, Registry } from "./registry.ts";

/** Seconds by which a certificate's validity begins early: proxies' clocks differ. */
const BACKDATE = 3600;

/**
 * Issue a device's next certificate.
 * @param validity ms
 */
export function grant(registry: Registry, ca: KeyPair, device: Device, validity: number, now: Date): Grant {
  const expires = new Date(now.getTime() + validity);
  const serial = registry.issue(device, now, expires);
  const certificate = signCertificate(ca, {
    publicKey: parsePublicKey(device.publicKey, `registry: key of ${device.node}`),
    serial,
    keyId: `${device.node} ${device.boardMac}`,
    principals: [VPN_PRINCIPAL],
    validAfter: Math.floor(now.getTime() / 1000) - BACKDATE,
    validBefore: Math.floor(expires.getTime() / 1000),
  });
  return {
    node: device.node,
    mac: device.mac,
    certificate: certificate.split(" ", 2).join(" "),
    renewAfter: Math.max(1, Math.floor(validity / 2000)),
  };
}
