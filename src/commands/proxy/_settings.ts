/** The keys of [proxy] that both ways of being a proxy need. */

import type { HostPort } from "../../address.ts";
import type { Config } from "../../config/schema.ts";
import { WaltError } from "../../errors.ts";
import { type PublicKey, parsePublicKey } from "../../ssh/keys/ed25519.ts";
import { VERSION } from "../../version.ts";

export interface ProxySettings {
  next: HostPort;
  ca: PublicKey;
  enrolment: PublicKey;
  serverCaFile: string;
  version: string;
}

/** @throws WaltError naming the keys that the configuration lacks. */
export function proxySettings(config: Config): ProxySettings {
  const { next, ca, enrolment } = config.proxy;
  const missing = Object.entries({ next: next === undefined, ca: ca === "", enrolment: enrolment === "" })
    .filter(([, isMissing]) => isMissing)
    .map(([key]) => `proxy.${key}`);
  if (next === undefined || missing.length > 0) {
    throw new WaltError(`${config.file ?? "the configuration"} lacks ${missing.join(", ")}`, {
      hint: "On the server, `walt vpn setup-proxy --toml` writes a vpn.toml with all of them.",
    });
  }
  return {
    next,
    ca: parsePublicKey(ca, "proxy.ca"),
    enrolment: parsePublicKey(enrolment, "proxy.enrolment"),
    serverCaFile: `${config.server.state}/keys/ca.pub`,
    version: VERSION,
  };
}
