/** The server's keys as set-up commands use them. */

import type { ApiClient } from "../../api/client.ts";
import type { TrustInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { type PublicKey, parsePublicKey } from "../../ssh/keys/ed25519.ts";

export interface Trust extends TrustInfo {
  caKey: PublicKey;
  enrolmentKey: PublicKey;
  serverKey: PublicKey;
}

/** @throws WaltError when the server cannot be reached. */
export async function fetchTrust(api: ApiClient): Promise<Trust> {
  const trust = await api.call(SERVER.trust, {});
  return {
    ...trust,
    caKey: parsePublicKey(trust.ca, "the server's CA key"),
    enrolmentKey: parsePublicKey(trust.enrolmentPublicKey, "the server's enrolment key"),
    serverKey: parsePublicKey(trust.hostKey, "the server's host key"),
  };
}
