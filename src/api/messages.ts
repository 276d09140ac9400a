/**
 * The messages of the server's API, each as the function that parses it: the type of a message is what its
 * function returns. Fields that a newer version added are ignored, and a field that is missing is an error.
 */

import { parseReport } from "../control/report.ts";
import { TOKEN } from "../enrolment/token.ts";
import { WaltError } from "../errors.ts";
import { parseNodeName } from "../node-name.ts";
import { type Fields, MAC } from "../parse.ts";
import { plainText, safeText } from "../text.ts";
import { COUNTER_NAMES, type LinkStats } from "../tunnel/counters.ts";
import { FRAMING_NAMES } from "../tunnel/framing.ts";
import { parseJournalEvent } from "./journal.ts";

export type NodeState = "up" | "down";

const NODE_STATES: readonly NodeState[] = ["up", "down"];

/** Longest text of an entrypoint, in characters (src/address.ts). */
export const MAX_ENTRYPOINT = 4096;

/** Larger than any count of bytes or frames: the largest whole number that a double holds exactly. */
const MAX_COUNT = Number.MAX_SAFE_INTEGER;

export const REENROL = ["no", "ordered", "told"] as const;

/** What a denial can block. */
export const BLOCKS = ["key", "source"] as const;
export type Block = (typeof BLOCKS)[number];

const INVITATION_KINDS = ["token", "board"] as const;
/** Devices that may come in by one token. */
export const MAX_USES = 10_000;
/** ms for which a token or an expected board is valid: ten years. */
export const MAX_EXPIRES = 10 * 365 * 86_400_000;
/** Characters of a note. */
export const MAX_NOTE = 200;

/** The counters of a tunnel. One that an earlier version does not have is 0, which means that it is not known. */
export function parseTraffic(f: Fields): LinkStats {
  const counters = COUNTER_NAMES.map((name) => [name, f.has(name) ? f.number(name, 0, MAX_COUNT) : 0]);
  return Object.fromEntries(counters) as LinkStats;
}

/** Why a node is down, or not in order although its tunnel is up. */
export type Why = ReturnType<typeof parseWhy>;

function parseWhy(f: Fields) {
  return {
    /**
     * `never-up`, `tunnel-ended`, `server-ended` (it was killed while the tunnel was up), `no-tunnel` (the board
     * asked for one), `no-boot-files`, `no-vm`, or one that only a newer version knows.
     */
    kind: f.text("kind", 40, /^[a-z][a-z-]*$/),
    /** Since when, or when it was seen. */
    at: f.orNull("at", (key) => f.time(key)),
    /** Of `tunnel-ended`: the kind of the end. */
    end: f.orNull("end", (key) => f.text(key, 40, /^[a-z][a-z-]*$/)),
    /** In words, where there are any; of `no-boot-files` the file. */
    reason: f.orNull("reason", (key) => f.words(key, 4096)),
  };
}

/** A node as experimenters see it. */
export type NodeInfo = ReturnType<typeof parseNode>;

export function parseNode(f: Fields) {
  return {
    name: f.words("name"),
    /**
     * The name that the server gave it when it was accepted: in its device's credentials, and its TAP's name.
     */
    defaultName: f.words("defaultName"),
    /** An operator's words about it; empty where there are none. */
    note: f.words("note", MAX_NOTE),
    type: f.choice("type", ["vpn"]),
    state: parseNodeState(f),
    mac: f.words("mac"),
    /** Its address on walt-net, once known. */
    address: f.orNull("address", (key) => f.words(key)),
    /** Why it is down or not in order; null where nothing is known to be wrong. */
    why: f.orNull("why", (key) => parseWhy(f.object(key))),
    /** When its tunnel was up last; null if it never was. */
    seen: f.orNull("seen", (key) => f.time(key)),
    /** Since when it is in this state; null if it never was up. */
    since: f.orNull("since", (key) => f.time(key)),
    /** The entrypoint that its tunnel comes through; null as well when the device did not say. */
    via: f.orNull("via", (key) => f.words(key, MAX_ENTRYPOINT)),
    /**
     * What its tunnel speaks while it is up: the messages of docs/protocol.md, or WalT's original framing.
     */
    framing: f.orNull("framing", (key) => f.choice(key, FRAMING_NAMES)),
    /** The MTU that device and server agreed on, bytes. */
    mtu: f.orNull("mtu", (key) => f.integer(key, 0, 65_535)),
    /** Round trip through the tunnel, ms. */
    rtt: f.orNull("rtt", (key) => f.number(key, 0, MAX_COUNT)),
    /** The share of late or unanswered PINGs lately, 0 to 1: what the path lost and TCP repeated. */
    loss: f.orNull("loss", (key) => f.number(key, 0, 1)),
    /** Counters of the tunnel while it is up. "In" is from the node. */
    traffic: f.orNull("traffic", (key) => parseTraffic(f.object(key))),
  };
}

export function parseNodeState(f: Fields): NodeState {
  return f.choice("state", NODE_STATES);
}

/** Events of the journal that the details of a node have, at most. */
export const NODE_EVENTS = 10;

/** All that the server knows of a node. */
export type NodeDetails = ReturnType<typeof parseNodeDetails>;

export function parseNodeDetails(f: Fields) {
  return {
    ...parseNode(f),
    device: parseDevice(f.object("device")),
    /** Of the server. */
    serverVersion: f.words("serverVersion"),
    /** The last events of the journal about the node, the oldest first. */
    events: f.list("events", parseJournalEvent, NODE_EVENTS),
    /** What a WalT server on the server's machine knows of it; missing when it knows nothing, or there is none. */
    ...f.optional("walt", (key) => parseWaltNode(f.object(key))),
    /** What the device last told of itself, and when; null when it has told nothing since the server's start. */
    report: f.orNull("report", (key) => {
      const told = f.object(key);
      return { receivedAt: told.time("receivedAt"), facts: parseReport(told.value("facts")) };
    }),
  };
}

/** A node, as WalT knows it. What its version does not say is null. */
export type WaltNode = ReturnType<typeof parseWaltNode>;

function parseWaltNode(f: Fields) {
  return {
    name: f.words("name"),
    model: f.orNull("model", (key) => f.words(key)),
    image: f.orNull("image", (key) => f.words(key, 400)),
    booted: f.orNull("booted", (key) => f.boolean(key)),
    address: f.orNull("address", (key) => f.words(key)),
  };
}

/** What harms walt-net or a node, and has a cure. */
export type Trouble = ReturnType<typeof parseTrouble>;

export function parseTrouble(f: Fields) {
  return {
    /** `collision`, `filter`, `ports`, `shared-key`, or one that only a newer version knows. */
    kind: f.text("kind", 40, /^[a-z][a-z-]*$/),
    text: f.words("text", 500),
    /** What to do about it. */
    cure: f.words("cure", 500),
  };
}

/** A request that names a node. */
export function parseNodeWanted(f: Fields) {
  return { node: f.words("node") };
}

/** An operator's order to give a node another name. */
export function parseRename(f: Fields) {
  return { node: f.words("node"), name: parseNodeName(f.text("name")), by: parseOperator(f) };
}

/** An operator's word on which board is a node's. */
export function parseBoardOrder(f: Fields) {
  return { node: f.words("node"), mac: f.text("mac", 17, MAC), by: parseOperator(f) };
}

/** An operator's note about a node; empty to remove it. */
export function parseNoteOrder(f: Fields) {
  return { node: f.words("node"), note: f.words("note", MAX_NOTE), by: parseOperator(f) };
}

/** A registered device. */
export type DeviceInfo = ReturnType<typeof parseDevice>;

export function parseDevice(f: Fields) {
  return {
    node: f.words("node"),
    /** As of a node. */
    defaultName: f.words("defaultName"),
    state: f.choice("state", [...NODE_STATES, "revoked"]),
    boardMac: f.words("boardMac"),
    model: f.words("model"),
    serialNumber: f.words("serialNumber"),
    fingerprint: f.words("fingerprint"),
    code: f.words("code"),
    acceptedAt: f.time("acceptedAt"),
    acceptedBy: f.words("acceptedBy"),
    certificateSerial: f.words("certificateSerial"),
    /** When the last of its certificates expires; empty for a device that never was given one. */
    certificateExpires: f.words("certificateExpires"),
    revokedAt: f.orNull("revokedAt", (key) => f.time(key)),
    /** Whether it is told to forget its key and ask again, when it is revoked: `told` once it was. */
    reenrol: f.choice("reenrol", REENROL),
  };
}

/**
 * What set-up commands need of the server: public keys, and the enrolment key, which every SD image carries.
 */
export type TrustInfo = ReturnType<typeof parseTrust>;

export function parseTrust(f: Fields) {
  return {
    /** Public keys, the one in use first; during a rotation two of that kind. */
    cas: f.wordList("cas", 2, 400),
    hostKeys: f.wordList("hostKeys", 2, 400),
    enrolmentPublicKeys: f.wordList("enrolmentPublicKeys", 2, 400),
    /** The newest enrolment key: OpenSSH private key, PEM. */
    enrolmentPrivateKey: f.text("enrolmentPrivateKey", 8192),
    /** Public keys of revoked devices whose certificates are still valid. */
    revoked: f.wordList("revoked", 100_000, 400),
    /** By this a proxy tells this server's lines from those of others. */
    mark: f.text("mark", 100, /^SHA256:[A-Za-z0-9+/]{43}$/),
    /**
     * Where this server keeps its CA's public key: how a set-up script recognises the server's own machine.
     */
    caFile: f.words("caFile", 4096),
    /** `host:port` by which proxies reach the server, from `server.address`. */
    address: f.words("address", 300),
    version: f.words("version"),
  };
}

/** An operator's answer to a request for access. */
export function parseAnswer(f: Fields) {
  if (!f.has("fingerprint")) {
    throw new WaltError("the answer does not say which key it is for; nothing was done", {
      hint: "Give the request's fingerprint with it. A `walt` that does not is older than this server.",
    });
  }
  return {
    id: f.words("id", 40),
    accept: f.boolean("accept"),
    fingerprint: f.words("fingerprint", 100),
    by: parseOperator(f),
    /** What the node of an accepted device is to be called. */
    ...f.optional("name", (key) => parseNodeName(f.text(key))),
    /** Of a denial: do not show this key again, or what comes from where it came from for an hour. */
    ...f.optional("block", (key) => f.choice(key, BLOCKS)),
  };
}

/** What an answer led to: the node's name, or null when the device was denied. */
export function parseAnswered(f: Fields) {
  return { node: f.orNull("node", (key) => f.words(key)) };
}

/** A key or a source whose requests no monitor is shown. */
export type BlockInfo = ReturnType<typeof parseBlock>;

export function parseBlock(f: Fields) {
  return {
    kind: f.choice("kind", BLOCKS),
    /** Fingerprint of the key, or the source: an IPv4 address, or an IPv6 network. */
    what: f.words("what", 100),
    /** Of a key: its short code, and the MAC address that its device claims; null of a source. */
    code: f.orNull("code", (key) => f.words(key, 40)),
    mac: f.orNull("mac", (key) => f.words(key, 40)),
    /** The operator. */
    by: f.words("by"),
    at: f.time("at"),
    /** Of a key that asks again it is later. */
    until: f.time("until"),
  };
}

/** An operator's order to show requests of a key, or from a source, again. */
export function parseLift(f: Fields) {
  return { kind: f.choice("kind", BLOCKS), what: f.words("what", 100), by: parseOperator(f) };
}

/** A token, or a board that is expected: devices that are accepted before they ask. */
export type InvitationInfo = ReturnType<typeof parseInvitation>;

export function parseInvitation(f: Fields) {
  return {
    id: f.integer("id", 1, MAX_COUNT),
    kind: f.choice("kind", INVITATION_KINDS),
    state: f.choice("state", ["valid", "withdrawn", "expired", "used up"]),
    /** What an expected board says of itself; null where anything will do, and of a token. */
    mac: f.orNull("mac", (key) => f.words(key)),
    serialNumber: f.orNull("serialNumber", (key) => f.words(key)),
    note: f.words("note", MAX_NOTE),
    /** How many devices may come in by it, and how many have. */
    uses: f.integer("uses", 1, MAX_USES),
    used: f.integer("used", 0, MAX_USES),
    expiresAt: f.time("expiresAt"),
    addedAt: f.time("addedAt"),
    addedBy: f.words("addedBy"),
  };
}

/** An operator's order for a new token. `expires` is in ms from now. */
export function parseNewToken(f: Fields) {
  return {
    uses: f.integer("uses", 1, MAX_USES),
    expires: f.integer("expires", 1000, MAX_EXPIRES),
    note: f.words("note", MAX_NOTE),
    by: parseOperator(f),
  };
}

/** The new token, which the server does not know any more once it has said it. */
export function parseAddedToken(f: Fields) {
  return { ...parseInvitation(f), token: f.text("token", 40, TOKEN) };
}

/** An operator's order to expect a board: at least one of MAC address and serial number is told. */
export function parseExpected(f: Fields) {
  const mac = f.optionalText("mac", 17, MAC);
  const serialNumber = f.has("serialNumber") ? plainText(f.text("serialNumber", 64)) : undefined;
  if (mac === undefined && (serialNumber ?? "") === "")
    throw new WaltError("neither a MAC address nor a serial number was told, so nothing can be expected");
  return {
    mac,
    serialNumber,
    expires: f.integer("expires", 1000, MAX_EXPIRES),
    note: f.words("note", MAX_NOTE),
    by: parseOperator(f),
  };
}

/** An operator's order to withdraw a token or an expected board. */
export function parseWithdrawal(f: Fields) {
  return {
    id: Number(f.text("id", 15, /^\d+$/)),
    kind: f.choice("kind", INVITATION_KINDS),
    by: parseOperator(f),
  };
}

/** The keys that can be rotated: the CA of certificates, the server's host key, the enrolment key of cards. */
export const ROTATED = ["ca", "host", "enrolment"] as const;

/** One of the server's keys, and its rotation. */
export type RotationInfo = ReturnType<typeof parseRotation>;

export function parseRotation(f: Fields) {
  return {
    key: f.choice("key", ROTATED),
    /** Of the key in use. */
    fingerprint: f.words("fingerprint"),
    /** Fingerprint of the new key beside it; null while it is not rotated. */
    next: f.orNull("next", (key) => f.words(key)),
    /** Nodes whose boards have not got the new key. */
    waiting: f.wordList("waiting", 100_000, 40),
  };
}

/** An operator's order for a new key beside the old one. */
export function parseRotate(f: Fields) {
  return { key: f.choice("key", ROTATED), by: parseOperator(f) };
}

/** An operator's order that the new key takes the place of the old one; `force`: although boards have not got it. */
export function parseFinish(f: Fields) {
  return { ...parseRotate(f), force: f.boolean("force") };
}

/** An operator's order to revoke the device of a node. `reenrol`: it is told to forget its key and ask again. */
export function parseRevocation(f: Fields) {
  return {
    node: f.words("node"),
    reenrol: f.has("reenrol") ? f.boolean("reenrol") : false,
    by: parseOperator(f),
  };
}

/** An operator's order about a revoked device: which one says its key, as a node may have had several. */
export function parseRevokedOrder(f: Fields) {
  return { node: f.words("node"), fingerprint: f.words("fingerprint", 100), by: parseOperator(f) };
}

/** What a revocation leaves: until when the device's certificate passes the proxies; null when it does not any more. */
export function parseRevoked(f: Fields) {
  return { passesUntil: f.orNull("passesUntil", (key) => f.time(key)) };
}

/** A monitor that begins to watch. */
export function parseWatch(f: Fields) {
  return { name: f.has("name") ? parseOperator(f, "name") : "unknown" };
}

/**
 * Who gives an order, as the command claims, such as `alice@laptop`: at most 60 characters. The server
 * puts the user's name before it (src/server/operator.ts).
 */
function parseOperator(f: Fields, key = "by"): string {
  return safeText(f.text(key, 100), 60);
}

/** A message without content. */
export function parseNothing(_: Fields): Record<string, never> {
  return {};
}
