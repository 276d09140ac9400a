/** The keys of [proxy] that `walt proxy setup` and `walt proxy run` need. */

import type { HostPort } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import { MADE_AFTER } from "../../doctor/resources.ts";
import { WaltError } from "../../errors.ts";
import { fingerprint, type PublicKey, parsePublicKey } from "../../ssh/keys/ed25519.ts";
import { VERSION } from "../../version.ts";

export interface ProxySettings {
  next: HostPort;
  cas: PublicKey[];
  enrolments: PublicKey[];
  mark: string;
  /** A configuration does not know who was revoked since. */
  revoked: undefined;
  serverCaFile: string;
  version: string;
  /** The clock of this machine is not earlier than this version. */
  written: Date;
}

/** @throws WaltError naming the keys that the configuration lacks. */
export function proxySettings(config: Config): ProxySettings {
  const { next, ca, enrolment, mark } = config.proxy;
  const missing = Object.entries({
    next: next === undefined,
    ca: ca.length === 0,
    enrolment: enrolment.length === 0,
  })
    .filter(([, isMissing]) => isMissing)
    .map(([key]) => `proxy.${key}`);
  if (next === undefined || missing.length > 0) {
    throw new WaltError(`${config.file ?? "the configuration"} lacks ${missing.join(", ")}`, {
      hint: "On the server, `walt vpn setup-proxy --toml` writes a vpn.toml with all of them.",
    });
  }
  const cas = ca.map((line) => parsePublicKey(line, "proxy.ca"));
  return {
    next,
    cas,
    enrolments: enrolment.map((line) => parsePublicKey(line, "proxy.enrolment")),
    // A file of an earlier version has none: its only CA is the first.
    mark: mark === "" ? cas.map(fingerprint).slice(0, 1).join("") : mark,
    revoked: undefined,
    serverCaFile: `${config.server.state}/keys/ca.pub`,
    version: VERSION,
    written: new Date(MADE_AFTER),
  };
}
