/** The server's end of an enrolment: challenge, request, decision, grant (docs/protocol.md, "Enrolment"). */

import { randomBytes } from "node:crypto";
import {
  CHALLENGE_LENGTH,
  type DenialReason,
  type EnrolmentRequest,
  encodeChallenge,
  encodeReply,
  type Grant,
  MAX_LINE,
  parseRequest,
} from "../enrolment/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { within } from "../linux/sleep.ts";
import type { Log } from "../log.ts";
import type { Channel } from "../ssh/handshake/channel.ts";
import { fingerprint, shortCode } from "../ssh/keys/ed25519.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { Device, Registry } from "./registry.ts";

/** ms that a device has to send its request. */
const REQUEST_TIME = 10_000;

const WORDS: Record<DenialReason, string> = {
  "nobody-watching": "nobody runs `walt vpn monitor` on the server",
  operator: "the operator denied this device",
  timeout: "no operator answered in time",
  revoked: "this device was revoked; `walt device forget` on it lets it ask with a new key",
  busy: "too many devices ask at once, or this one has asked again on another connection",
  invalid: "the server did not understand the request",
};

export interface EnrolmentService {
  requests: AccessRequests;
  registry: Registry;
  grant(device: Device): Grant;
  /** Seconds a denied device should wait. */
  retryAfter: number;
  log: Log;
}

/** The first line that comes, within REQUEST_TIME. What comes after it is thrown away. */
async function firstLine(channel: Channel): Promise<string> {
  try {
    const late = new WaltError("no request came within 10 s");
    const line = await within(REQUEST_TIME, channel.readLine(MAX_LINE), late);
    if (line === undefined) throw new WaltError("the device went away before it sent its request");
    return line;
  } finally {
    channel.discard();
  }
}

/**
 * Serve one exec of `enrol`. What is wrong with the request is told to the device and logged.
 * @throws WaltError when no certificate can be issued to a device that was accepted before.
 */
export async function serveEnrolment(
  channel: Channel,
  from: string,
  keep: () => () => void,
  service: EnrolmentService,
): Promise<void> {
  const { requests, registry, log } = service;
  const deny = (reason: DenialReason, detail?: string): void => {
    const message = detail ?? WORDS[reason];
    void channel.write(encodeReply({ type: "denied", reason, message, retryAfter: service.retryAfter }));
    channel.exit(0);
  };
  const challenge = randomBytes(CHALLENGE_LENGTH);
  void channel.write(encodeChallenge(challenge));
  let request: EnrolmentRequest;
  try {
    request = parseRequest(await firstLine(channel), challenge);
  } catch (error) {
    log.warn("not a valid enrolment request", {
      event: "enrolment-malformed",
      from,
      reason: messageOf(error),
    });
    deny("invalid", messageOf(error).slice(0, 300));
    return;
  }
  const print = fingerprint(request.publicKey);
  const about = { code: shortCode(request.publicKey), mac: request.mac, fingerprint: print, from };

  const known = registry.byKey(request.publicKey);
  if (known?.revokedAt != null) {
    log.warn("a revoked device asks for access", { event: "enrolment-revoked", node: known.node, ...about });
    deny("revoked");
    return;
  }
  if (known !== undefined) {
    // It was accepted, but the answer did not reach its disk: a power cut in between, most likely.
    log.info("an accepted device asks again and gets its credentials", {
      event: "enrolment-repeated",
      node: known.node,
      ...about,
    });
    void channel.write(encodeReply({ type: "granted", ...service.grant(known) }));
    channel.exit(0);
    return;
  }

  const same = registry.byBoardMac(request.mac).map((d) => d.node);
  const warning =
    same.length === 0
      ? undefined
      : `a registered device with this MAC address exists already: ${same.join(", ")}`;
  const ticket = requests.ask(request, from, warning);
  if (ticket.waits) {
    log.info("a device asks for access", { event: "enrolment-requested", request: ticket.id, ...about });
    void channel.write(encodeReply({ type: "pending" }));
  }
  void channel.ended.then(() => ticket.withdraw());
  // Until the answer, the connection is not one of those that are ended to make room for others.
  const release = keep();
  const decision = await ticket.decision.finally(release);
  if ("denied" in decision) {
    // Those that the limits deny at once are counted, and logged together.
    if (ticket.waits || decision.denied !== "busy")
      log.info("access denied", {
        event: "enrolment-denied",
        request: ticket.waits ? ticket.id : undefined,
        reason: decision.denied,
        ...about,
      });
    deny(decision.denied);
    return;
  }
  void channel.write(encodeReply({ type: "granted", ...decision.granted }));
  channel.exit(0);
}
