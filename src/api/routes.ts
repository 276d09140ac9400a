/**
 * The requests that a daemon answers: method, path, and what parses the request and the answer. Both ends use
 * this table.
 */

import { Fields, parseList } from "../parse.ts";
import { safeText } from "../text.ts";
import { ApiError } from "./api-error.ts";
import { parseDeviceStatus } from "./device-status.ts";
import { parseListedRequest, parseMonitorEvent } from "./events.ts";
import { parseHistory, parseHistoryWanted } from "./history.ts";
import { MAX_EVENTS, parseEventsWanted, parseFollow, parseFollowed, parseJournalEvent } from "./journal.ts";
import {
  parseAddedToken,
  parseAnswer,
  parseAnswered,
  parseBlock,
  parseBoardOrder,
  parseDevice,
  parseExpected,
  parseFinish,
  parseInvitation,
  parseLift,
  parseNewToken,
  parseNode,
  parseNodeDetails,
  parseNodeWanted,
  parseNoteOrder,
  parseNothing,
  parseRename,
  parseRevocation,
  parseRevoked,
  parseRevokedOrder,
  parseRotate,
  parseRotation,
  parseTrouble,
  parseTrust,
  parseWatch,
  parseWithdrawal,
} from "./messages.ts";
import { parseInput, parseOrderEvent, parseOrderRequest } from "./orders.ts";
import { parsePinged, parsePingWanted } from "./ping.ts";

/**
 * The number of the API, in the paths and in the header `walt-api`. A new one only for what an older peer
 * would misread.
 */
export const API = 1;

/** Headers of every answer: the number of the API, and the version of walt that answers. */
export const API_HEADER = "walt-api";
export const VERSION_HEADER = "walt-version";

/**
 * A request Q and its answer A, both JSON. Fields of the request that the path names with a colon travel in
 * the path; the others in the query of a GET, and in the body of a POST.
 */
export interface Route<Q, A> {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** @throws WaltError when a field is missing or is not as it should be; so does `answer`. */
  request(fields: Fields): Q;
  answer(value: unknown, where: string): A;
}

/** A request Q whose answer is a stream of events E, one JSON object a line. */
export interface StreamRoute<Q, E> {
  readonly method: "GET" | "POST";
  readonly path: string;
  request(fields: Fields): Q;
  /** @returns undefined for an event that only a newer version knows. */
  event(fields: Fields): E | undefined;
}

/**
 * A request without fields, whose answer is lines of plain ASCII, for the scripts of a board, which have no
 * parser of JSON.
 */
export interface TextRoute {
  readonly method: "GET";
  readonly path: string;
}

const object =
  <T>(parse: (fields: Fields) => T) =>
  (value: unknown, where: string): T =>
    parse(new Fields(value, where));

const list =
  <T>(parse: (fields: Fields) => T, max = 100_000) =>
  (value: unknown, where: string): T[] =>
    parseList(value, where, parse, max);

function get<A>(path: string, answer: Route<unknown, A>["answer"]): Route<Record<string, never>, A> {
  return { method: "GET", path: `/v${API}${path}`, request: parseNothing, answer };
}

/** A GET with fields in its path or its query. */
function ask<Q, A>(path: string, request: (fields: Fields) => Q, answer: Route<Q, A>["answer"]): Route<Q, A> {
  return { method: "GET", path: `/v${API}${path}`, request, answer };
}

function post<Q, A>(
  path: string,
  request: (fields: Fields) => Q,
  answer: (fields: Fields) => A,
): Route<Q, A> {
  return { method: "POST", path: `/v${API}${path}`, request, answer: object(answer) };
}

/** A POST whose answer has any shape: a measurement, which costs something. */
function measure<Q, A>(
  path: string,
  request: (fields: Fields) => Q,
  answer: Route<Q, A>["answer"],
): Route<Q, A> {
  return { method: "POST", path: `/v${API}${path}`, request, answer };
}

function stream<Q, E>(
  path: string,
  request: (fields: Fields) => Q,
  event: (fields: Fields) => E | undefined,
): StreamRoute<Q, E> {
  return { method: "GET", path: `/v${API}${path}`, request, event };
}

/** A POST whose answer is a stream of events. */
function longPost<Q, E>(
  path: string,
  request: (fields: Fields) => Q,
  event: (fields: Fields) => E | undefined,
): StreamRoute<Q, E> {
  return { method: "POST", path: `/v${API}${path}`, request, event };
}

function text(path: string): TextRoute {
  return { method: "GET", path: `/v${API}${path}` };
}

/** Of `walt server run`. */
export const SERVER = {
  nodes: get("/nodes", list(parseNode)),
  node: ask("/nodes/:node", parseNodeWanted, object(parseNodeDetails)),
  history: ask("/nodes/:node/history", parseHistoryWanted, object(parseHistory)),
  histories: get("/history", list(parseHistory)),
  rename: post("/nodes/:node/rename", parseRename, parseNothing),
  board: post("/nodes/:node/board", parseBoardOrder, parseNothing),
  note: post("/nodes/:node/note", parseNoteOrder, parseNothing),
  events: ask("/events", parseEventsWanted, list(parseJournalEvent, MAX_EVENTS)),
  follow: stream("/events/follow", parseFollow, parseFollowed),
  devices: get("/devices", list(parseDevice)),
  troubles: get("/troubles", list(parseTrouble)),
  trust: get("/trust", object(parseTrust)),
  requests: get("/requests", list(parseListedRequest)),
  answer: post("/requests/:id", parseAnswer, parseAnswered),
  blocks: get("/blocks", list(parseBlock)),
  lift: post("/blocks/lift", parseLift, parseNothing),
  invitations: get("/invitations", list(parseInvitation)),
  addToken: post("/tokens", parseNewToken, parseAddedToken),
  expect: post("/expected", parseExpected, parseInvitation),
  withdraw: post("/invitations/:id/withdraw", parseWithdrawal, parseNothing),
  rotations: get("/keys", list(parseRotation)),
  rotate: post("/keys/:key/rotate", parseRotate, parseRotation),
  finishRotation: post("/keys/:key/finish", parseFinish, parseRotation),
  revoke: post("/devices/:node/revoke", parseRevocation, parseRevoked),
  restore: post("/devices/:node/restore", parseRevokedOrder, parseNothing),
  remove: post("/devices/:node/remove", parseRevokedOrder, parseNothing),
  monitor: stream("/monitor", parseWatch, parseMonitorEvent),
  order: longPost("/nodes/:node/orders", parseOrderRequest, parseOrderEvent),
  ping: measure("/nodes/:node/ping", parsePingWanted, list(parsePinged, 32)),
  input: post("/orders/:session/input", parseInput, parseNothing),
} as const;

/** Of `walt device run`. */
export const DEVICE = {
  status: get("/status", object(parseDeviceStatus)),
  /** What a board shows on its screen. */
  screen: text("/screen"),
  /**
   * `ok`, or with status 503 the reason why the device would be better restarted: what a board's watchdog
   * asks.
   */
  health: text("/health"),
} as const;

/** The path of a request, with its query, and the fields that are left for the body. */
export function encodeRequest(
  route: Pick<Route<unknown, unknown>, "method" | "path">,
  request: object,
): { path: string; body: string | undefined } {
  const rest = new Map(Object.entries(request).map(([key, value]) => [key, value as unknown]));
  const path = route.path.replaceAll(/:(\w+)/g, (_, key: string) => {
    const value = String(rest.get(key));
    rest.delete(key);
    return encodeURIComponent(value);
  });
  if (route.method === "POST") return { path, body: JSON.stringify(Object.fromEntries(rest)) };
  const given = [...rest].filter(([, value]) => value !== undefined);
  const query = new URLSearchParams(given.map(([key, value]): [string, string] => [key, String(value)]));
  return { path: query.size === 0 ? path : `${path}?${query}`, body: undefined };
}

/**
 * The fields that a path carries; undefined when it is the path of another route.
 * @throws ApiError when the per cent signs of a field are not those of a URL.
 */
export function matchPath(
  route: { readonly path: string },
  path: string,
): Record<string, string> | undefined {
  const [pattern, words] = [route.path.split("/"), path.split("/")];
  if (pattern.length !== words.length) return undefined;
  const fields: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const word = words[index] ?? "";
    if (part.startsWith(":")) fields[part.slice(1)] = decoded(word);
    else if (part !== word) return undefined;
  }
  return fields;
}

function decoded(word: string): string {
  try {
    return decodeURIComponent(word);
  } catch {
    throw new ApiError("malformed", `${safeText(word)} is no part of a URL's path`);
  }
}
