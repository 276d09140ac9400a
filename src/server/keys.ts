/** The server's three keys, made at its first start. */

import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import type { KeyPair } from "../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../ssh/keys/key-files.ts";

export interface ServerKeys {
  /** Signs device certificates. */
  ca: KeyPair;
  /** Authenticates this server end to end. */
  host: KeyPair;
  /** In every SD image: to be treated as public. */
  enrolment: KeyPair;
  /** Path of the CA's public key. */
  caFile: string;
}

/** @throws WaltError when the folder cannot be made or a key file is not what it should be. */
export function loadServerKeys(state: string): ServerKeys {
  const folder = join(state, "keys");
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
  } catch (error) {
    throw new WaltError(`cannot make ${folder}: ${messageOf(error)}`, {
      hint: "The server runs as root, or with a `server.state` folder of its own.",
      cause: error,
    });
  }
  const caFile = join(folder, "ca");
  return {
    ca: loadOrCreateKey(caFile, "walt-vpn-ca"),
    host: loadOrCreateKey(join(folder, "host"), "walt-server"),
    enrolment: loadOrCreateKey(join(folder, "enrolment"), "walt-enrolment"),
    caFile: `${caFile}.pub`,
  };
}
