/** Certificates for registered devices. */

import type { EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { WaltError } from "../errors.ts";
import { signCertificate, VPN_PRINCIPAL } from "../ssh/keys/certificate.ts";
import { type KeyPair, parsePublicKey } from "../ssh/keys/ed25519.ts";
import type { Device, Registry } from "./registry.ts";

/** Seconds by which a certificate's validity begins early: proxies' clocks differ. */
const BACKDATE = 3600;
/** A clock that shows an earlier time than this was never set: this program is younger. */
const EARLIEST = Date.parse("2024-01-01T00:00:00Z");

/**
 * Issue a device's next certificate.
 * @param validity ms
 * @throws WaltError when the server's clock was never set. Whatever is thrown, nothing is stored.
 */
export function grant(registry: Registry, ca: KeyPair, device: Device, validity: number, now: Date): Grant {
  if (now.getTime() < EARLIEST) {
    throw new WaltError(
      `the server's clock says ${now.toISOString()}, so a certificate made now would be valid for no proxy`,
      { hint: "Set the clock of the server (`timedatectl` shows it), then try again. Nothing was stored." },
    );
  }
  const expires = new Date(now.getTime() + validity);
  const certificate = registry.atomically(() =>
    signCertificate(ca, {
      publicKey: parsePublicKey(device.publicKey, `registry: key of ${device.node}`),
      serial: registry.issue(device, now, expires),
      keyId: `${device.node} ${device.boardMac}`,
      principals: [VPN_PRINCIPAL],
      validAfter: Math.floor(now.getTime() / 1000) - BACKDATE,
      validBefore: Math.floor(expires.getTime() / 1000),
    }),
  );
  return {
    node: device.node,
    mac: device.mac,
    certificate: certificate.split(" ", 2).join(" "),
    renewAfter: Math.max(1, Math.floor(validity / 2000)),
  };
}

/**
 * Register a device and issue its first certificate: both, or neither.
 * @param by who accepted it
 * @param validity ms
 * @throws WaltError as `grant`, or when no node name is free. Whatever is thrown, nothing is stored.
 */
export function admit(
  registry: Registry,
  ca: KeyPair,
  request: EnrolmentRequest,
  by: string,
  validity: number,
  now: Date,
): Grant {
  return registry.atomically(() => grant(registry, ca, registry.accept(request, by, now), validity, now));
}
