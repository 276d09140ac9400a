/** Certificates for registered devices. */

import type { EnrolmentRequest, Grant } from "../enrolment/messages.ts";
import { WaltError } from "../errors.ts";
import { BACKDATE, signCertificate, VPN_PRINCIPAL } from "../ssh/keys/certificate.ts";
import { type KeyPair, parsePublicKey, publicKeyLine } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import type { ServerKeys } from "./keys.ts";
import type { Device, Registry } from "./registry.ts";

/** A clock with an earlier time was never set, because this program did not exist then. */
const EARLIEST = Date.parse("2024-01-01T00:00:00Z");

/**
 * Issue a device's next certificate.
 * @param validity ms
 * @throws WaltError when the server's clock was never set. After any error nothing is stored.
 */
export function grant(
  registry: Registry,
  keys: ServerKeys,
  device: Device,
  validity: number,
  now: Date,
): Grant {
  if (now.getTime() < EARLIEST) {
    throw new WaltError(
      `the server's clock says ${now.toISOString()}, so a certificate made now would be valid for no proxy`,
      { hint: "Set the clock of the server (`timedatectl` shows it), then try again. Nothing was stored." },
    );
  }
  return registry.atomically(() => {
    const expires = new Date(now.getTime() + validity);
    const serial = registry.issue(device, now, expires);
    const content = {
      publicKey: parsePublicKey(device.publicKey, `registry: key of ${device.node}`),
      serial,
      keyId: `${device.node} ${device.boardMac}`,
      principals: [VPN_PRINCIPAL],
      validAfter: Math.floor(now.getTime() / 1000) - BACKDATE,
      validBefore: Math.floor(expires.getTime() / 1000),
    };
    const certificate = (ca: KeyPair): string => signCertificate(ca, content).split(" ", 2).join(" ");
    const next = keys.nextOf("ca");
    return {
      node: device.defaultName,
      ...(device.node === device.defaultName ? {} : { name: device.node }),
      mac: device.mac,
      certificate: certificate(keys.of("ca")),
      ...(next === undefined ? {} : { nextCertificate: certificate(next) }),
      serverKeys: {
        hostKeys: keys.all("host").map((one) => publicKeyLine({ ...one.publicKey, comment: "" })),
        enrolmentKeys: keys.all("enrolment").map(encodePrivateKey).toReversed(),
      },
      renewAfter: Math.max(1, Math.floor(validity / 2000)),
    };
  });
}

/**
 * Register a device and issue its first certificate: both, or neither.
 * @param by who accepted it
 * @param validity ms
 * @param name what its node is to be called; by default the registry chooses.
 * @throws WaltError as `grant`, or when the node cannot have the name. After any error nothing is stored.
 */
export function admit(
  registry: Registry,
  keys: ServerKeys,
  request: EnrolmentRequest,
  by: string,
  validity: number,
  now: Date,
  name?: string,
): Grant {
  return registry.atomically(() =>
    grant(registry, keys, registry.accept(request, by, now, name), validity, now),
  );
}
