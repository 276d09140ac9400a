/** The device's side of enrolment and of the renewal of certificates (docs/protocol.md). */

import {
  type Board,
  type Denial,
  encodeRequest,
  type Grant,
  parseChallenge,
  parseReply,
  type Reply,
  STORED,
} from "../../enrolment/messages.ts";
import { WaltError } from "../../errors.ts";
import type { KeyPair, PublicKey } from "../../ssh/keys/ed25519.ts";
import type { Lines } from "../route/server-command.ts";
import { checkCertificate } from "./credentials.ts";

/** Milliseconds until the server's greeting, counted from the start of ssh, and until its first reply. */
const REPLY_TIMEOUT = 45_000;
/** Milliseconds until the operator's answer: more than a server can be configured to wait for it. */
const ANSWER_TIMEOUT = 3_700_000;
/** Milliseconds that the server has to end the conversation once the grant is stored. */
const CONFIRM_TIMEOUT = 10_000;
/**
 * How often the server may reply "pending". One reply is enough; the bound is for a server that never stops.
 */
const MAX_PENDING = 100;

/** The server's decision about a request. */
export type Answer = { granted: Grant } | { denied: Denial };

/**
 * Ask the server for access, and wait for its decision.
 * @param lines the conversation with the server's command `enrol`.
 * @param token of the device's card, if it has one.
 * @param pending called once, when the request waits for an operator.
 * @throws WaltError when the server does not follow the protocol, is silent for too long, or closes the
 *   connection.
 */
export async function ask(
  lines: Lines,
  board: Board,
  key: KeyPair,
  token: string | undefined,
  pending: () => void,
): Promise<Answer> {
  const challenge = parseChallenge(await nextLine(lines, REPLY_TIMEOUT, "it greeted"));
  lines.write(encodeRequest(board, key, challenge, token));
  let timeout = REPLY_TIMEOUT;
  for (let count = 0; count < MAX_PENDING; count++) {
    const reply = parseReply(await nextLine(lines, timeout, "it answered the request"));
    if (reply.type === "granted") return { granted: checkedGrant(reply, key.publicKey) };
    if (reply.type === "denied") return { denied: reply };
    if (count === 0) pending();
    timeout = ANSWER_TIMEOUT;
  }
  throw new WaltError(`the server replied "pending" ${MAX_PENDING} times, without a decision`);
}

/**
 * Get a new certificate from the server.
 * @param lines the conversation with the server's command `renew`, which sends one line.
 * @param key the public key of this device.
 * @param node name and MAC address of the node, as this device knows them.
 * @throws WaltError when the server refuses or does not follow the protocol, or when the certificate is for
 *   another key or another node.
 */
export async function renew(
  lines: Lines,
  key: PublicKey,
  node: { node: string; mac: string },
): Promise<Grant> {
  const reply: Reply = parseReply(await nextLine(lines, REPLY_TIMEOUT, "it sent a new certificate"));
  if (reply.type === "denied") throw new WaltError(`the server refuses a new certificate: ${reply.message}`);
  if (reply.type === "pending")
    throw new WaltError('the server replied "pending" to a renewal, which needs no operator');
  const grant = checkedGrant(reply, key);
  if (grant.node !== node.node || grant.mac !== node.mac) {
    throw new WaltError(
      `the server sent a certificate of node ${grant.node} (${grant.mac}), ` +
        `but this device has node ${node.node} (${node.mac})`,
      { hint: "Run `walt device forget`: the device then asks for access again." },
    );
  }
  return grant;
}

/**
 * The server's next line.
 * @param before what was expected of the server, for the message.
 * @throws WaltError when the server closes the connection, or as `Lines.next`.
 */
async function nextLine(lines: Lines, timeout: number, before: string): Promise<string> {
  const line = await lines.next(timeout);
  if (line === undefined) throw new WaltError(`the server ended the connection before ${before}`);
  return line;
}

/**
 * A grant after the check of its certificate and of its MAC address, which must be a unicast one (IEEE 802:
 * the lowest bit of the first byte is 0).
 * @throws WaltError naming what is wrong.
 */
function checkedGrant(grant: Grant, key: PublicKey): Grant {
  checkCertificate(grant.certificate, key, "the certificate from the server");
  if (grant.nextCertificate !== undefined)
    checkCertificate(grant.nextCertificate, key, "the second certificate from the server");
  const first = Number.parseInt(grant.mac.slice(0, 2), 16);
  if ((first & 1) !== 0 || /^(00:?)+$/.test(grant.mac)) {
    throw new WaltError(`the server sent the MAC address ${grant.mac}, which no network card can have`);
  }
  const { node, name, mac, certificate, nextCertificate, serverKeys, renewAfter } = grant;
  return { node, name, mac, certificate, nextCertificate, serverKeys, renewAfter };
}

/**
 * Tell the server that its grant is on the disk, and wait until it has heard that. A server that is older than
 * this ends the conversation without.
 */
export async function confirm(lines: Lines): Promise<void> {
  lines.write(STORED);
  await lines.next(CONFIRM_TIMEOUT).catch(() => {});
}
