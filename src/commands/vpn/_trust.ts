/** The server's keys as set-up commands use them. */

import type { ApiClient } from "../../api/client.ts";
import type { TrustInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { type PublicKey, parsePublicKey } from "../../ssh/keys/ed25519.ts";

export interface Trust extends TrustInfo {
  caKeys: PublicKey[];
  enrolmentKeys: PublicKey[];
  serverKeys: PublicKey[];
  revokedKeys: PublicKey[];
}

/** @throws WaltError when the server cannot be reached. */
export async function fetchTrust(api: ApiClient): Promise<Trust> {
  const trust = await api.call(SERVER.trust, {});
  const keys = (lines: readonly string[], what: string): PublicKey[] =>
    lines.map((line) => parsePublicKey(line, `the server's ${what} key`));
  return {
    ...trust,
    caKeys: keys(trust.cas, "CA"),
    enrolmentKeys: keys(trust.enrolmentPublicKeys, "enrolment"),
    serverKeys: keys(trust.hostKeys, "host"),
    revokedKeys: trust.revoked.map((line) => parsePublicKey(line, "the key of a revoked device")),
  };
}
