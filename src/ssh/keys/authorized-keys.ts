/**
 * What a proxy's sshd is told: the authorized_keys of user `walt-vpn` (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
 */

import { formatHostPort, type HostPort } from "../../address.ts";
import { VPN_PRINCIPAL } from "./certificate.ts";
import { type PublicKey, publicKeyLine } from "./ed25519.ts";

/**
 * What any session on a proxy runs, whatever was asked for: it echoes. A session makes sshd set TCP_NODELAY,
 * and the echo tells the device that this hop is alive. sshd gives it to `/bin/sh -c`, and dash keeps waiting
 * beside a plain `cat`: with `exec` a session is one process instead of two.
 */
const FORCED_COMMAND = "exec cat";

/**
 * `port-forwarding` gives back more than a device needs: `permitopen` narrows forwarding from the client to
 * the next hop. Nothing says "no forwarding towards the client", so `permitlisten` names an address that sshd
 * refuses to anyone but root: a privileged port.
 */
const RESTRICTIONS = (next: HostPort) =>
  `restrict,port-forwarding,permitopen="${formatHostPort(next)}",permitlisten="127.0.0.1:1",command="${FORCED_COMMAND}"`;

/** A line for certificates of each CA, and one for each enrolment key, each with its line break. */
export function authorizedKeys(o: {
  cas: readonly PublicKey[];
  enrolments: readonly PublicKey[];
  next: HostPort;
}): string {
  const restrictions = RESTRICTIONS(o.next);
  return [
    ...o.cas.map(
      (ca) => `cert-authority,principals="${VPN_PRINCIPAL}",${restrictions} ${publicKeyLine(ca)}\n`,
    ),
    ...o.enrolments.map((key) => `${restrictions} ${publicKeyLine(key)}\n`),
  ].join("");
}
