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
  parseStored,
} from "../enrolment/messages.ts";
import { messageOf, WaltError } from "../errors.ts";
import { within } from "../linux/sleep.ts";
import type { Log } from "../log.ts";
import type { Channel } from "../ssh/handshake/channel.ts";
import { fingerprint, type PublicKey, shortCode } from "../ssh/keys/ed25519.ts";
import type { AccessRequests } from "./access-requests.ts";
import type { Device, Registry } from "./registry.ts";

/** ms that a device has to send its request. */
const REQUEST_TIME = 10_000;

const WORDS: Record<DenialReason, string> = {
  "nobody-watching": "nobody runs `walt vpn monitor` on the server",
  operator: "the operator denied this device",
  timeout: "no operator answered in time",
  revoked:
    "this device was revoked; `walt vpn restore` on the server undoes that, `walt vpn revoke --reenrol` has it ask anew",
  busy: "too many devices ask at once, or this one has asked again on another connection",
  invalid: "the server did not understand the request",
};

export interface EnrolmentService {
  requests: AccessRequests;
  registry: Registry;
  grant(device: Device): Grant;
  /** What to do when the device of this key confirms that it has stored what it is given now. */
  confirmation(key: PublicKey): () => void;
  /** Accept a device that was accepted before it asked; else warnings for the operator. */
  acceptInvited(request: EnrolmentRequest): { granted: Grant } | { warnings: string[] };
  /** Seconds a denied device should wait. */
  retryAfter: number;
  log: Log;
}

/**
 * The next line that comes, within REQUEST_TIME; undefined when the device went away.
 * @throws WaltError when none comes, or it is too long.
 */
async function nextLine(channel: Channel): Promise<string | undefined> {
  return await within(REQUEST_TIME, channel.readLine(MAX_LINE), new WaltError("nothing came within 10 s"));
}

/** The device's request. What comes after it is for `give`. */
async function requestLine(channel: Channel): Promise<string> {
  const line = await nextLine(channel);
  if (line === undefined) throw new WaltError("the device went away before it sent its request");
  return line;
}

/**
 * Send a device its credentials, and wait until it has them on its disk, or goes.
 * @param stored what to do then. A device that is older than that goes without a word.
 */
export async function give(channel: Channel, given: Grant, stored: () => void): Promise<void> {
  void channel.write(encodeReply({ type: "granted", ...given }));
  try {
    const line = await nextLine(channel);
    if (line === undefined) return;
    parseStored(line);
    stored();
  } catch {
    // It has its credentials; what it does not confirm counts as not stored.
  } finally {
    channel.exit(0);
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
  const deny = (reason: DenialReason, detail?: string, forget?: boolean): void => {
    const message = detail ?? WORDS[reason];
    const { retryAfter } = service;
    void channel.write(encodeReply({ type: "denied", reason, message, retryAfter, forget }));
    channel.exit(0);
  };
  const challenge = randomBytes(CHALLENGE_LENGTH);
  void channel.write(encodeChallenge(challenge));
  let request: EnrolmentRequest;
  try {
    request = parseRequest(await requestLine(channel), challenge);
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
  if (known?.revokedAt != null && known.reenrol !== "no") {
    // The answer may be lost: then it asks again, with the same key.
    if (known.reenrol === "ordered") registry.toldToForget(known);
    log.info("a revoked device is told to forget its key", {
      event: "device-told-to-forget",
      node: known.node,
      ...about,
    });
    deny("revoked", "this device was revoked; it forgets its key, and asks with a new one", true);
    return;
  }
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
    return await give(channel, service.grant(known), service.confirmation(request.publicKey));
  }

  const invited = service.acceptInvited(request);
  if ("granted" in invited) {
    requests.forget(print);
    return await give(channel, invited.granted, service.confirmation(request.publicKey));
  }
  const same = registry.byBoardMac(request.mac).map((d) => d.node);
  const warnings = [
    ...invited.warnings,
    ...(same.length === 0
      ? []
      : [`a registered device with this MAC address exists already: ${same.join(", ")}`]),
  ];
  const ticket = requests.ask(request, from, warnings);
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
  await give(channel, decision.granted, service.confirmation(request.publicKey));
}
