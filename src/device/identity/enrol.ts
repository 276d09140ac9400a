/** The device's side of the enrolment and renewal conversations (docs/protocol.md). */

import {
  type Board,
  type Denial,
  encodeRequest,
  type Grant,
  parseChallenge,
  parseReply,
  type Reply,
} from "../../enrolment/messages.ts";
import { WaltError } from "../../errors.ts";
import type { KeyPair, PublicKey } from "../../ssh/keys/ed25519.ts";
import type { Lines } from "../route/server-command.ts";
import { checkCertificate } from "./credentials.ts";

/** ms for the server's greeting, from the start of ssh, and for its first reply. */
const REPLY_TIMEOUT = 45_000;
/** ms for the operator's answer: more than the longest that a server may be configured to wait. */
const ANSWER_TIMEOUT = 3_700_000;
/** More than one "pending" means nothing; so many are borne. */
const MAX_PENDING = 100;

export type Answer = { granted: Grant } | { denied: Denial };

/**
 * Ask for access, and wait for the answer.
 * @param pending is called when the request waits for an operator.
 * @throws WaltError when the server says anything that does not belong there, nothing, or breaks off.
 */
export async function ask(lines: Lines, board: Board, key: KeyPair, pending: () => void): Promise<Answer> {
  const challenge = parseChallenge(await must(lines, REPLY_TIMEOUT, "it greeted"));
  lines.write(encodeRequest(board, key, challenge));
  let timeout = REPLY_TIMEOUT;
  for (let count = 0; count < MAX_PENDING; count++) {
    const reply = parseReply(await must(lines, timeout, "it answered the request"));
    if (reply.type === "granted") return { granted: checked(reply, key.publicKey) };
    if (reply.type === "denied") return { denied: reply };
    if (count === 0) pending();
    timeout = ANSWER_TIMEOUT;
  }
  throw new WaltError(`the server said "pending" ${MAX_PENDING} times`);
}

/**
 * Take a new certificate from the server: it says one line.
 * @throws WaltError when it is none for this key or for another node, or does not come.
 */
export async function renew(
  lines: Lines,
  key: PublicKey,
  node: { node: string; mac: string },
): Promise<Grant> {
  const reply: Reply = parseReply(await must(lines, REPLY_TIMEOUT, "it gave a new certificate"));
  if (reply.type === "denied") throw new WaltError(`the server gives no new certificate: ${reply.message}`);
  if (reply.type === "pending")
    throw new WaltError("the server answers a renewal as if it were a request for access");
  const grant = checked(reply, key);
  if (grant.node !== node.node || grant.mac !== node.mac) {
    throw new WaltError(
      `the server takes this device for node ${grant.node} (${grant.mac}); it is ${node.node} (${node.mac})`,
      { hint: "`walt device forget` lets it ask for access afresh." },
    );
  }
  return grant;
}

async function must(lines: Lines, timeout: number, before: string): Promise<string> {
  const line = await lines.next(timeout);
  if (line === undefined) throw new WaltError(`the server ended the connection before ${before}`);
  return line;
}

/** A grant whose certificate is for our key and whose MAC address is one that a network card may have. */
function checked(grant: Grant, key: PublicKey): Grant {
  checkCertificate(grant.certificate, key, "the certificate from the server");
  const first = Number.parseInt(grant.mac.slice(0, 2), 16);
  if ((first & 1) !== 0 || /^(00:?)+$/.test(grant.mac)) {
    throw new WaltError(`the server gave the MAC address ${grant.mac}, which no network card can have`);
  }
  const { node, mac, certificate, renewAfter } = grant;
  return { node, mac, certificate, renewAfter };
}
