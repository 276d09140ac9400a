/**
 * Each message of the API: what is sent is what is read, and a message that lacks a field, or has a wrong
 * one, is refused.
 */

import { describe, expect, test } from "bun:test";
import { parseMonitorEvent } from "../../src/api/events.ts";
import { parseFollowed } from "../../src/api/journal.ts";
import { DEVICE, encodeRequest, matchPath, SERVER } from "../../src/api/routes.ts";
import { messageOf, WaltError } from "../../src/errors.ts";
import { Fields } from "../../src/parse.ts";
import { DETAILS, EVENT, HISTORY, NODE, PENDING, REGISTERED, STATUS, TRUST } from "./messages.ts";

const one =
  (route: { answer(value: unknown, where: string): unknown }) =>
  (value: unknown): unknown =>
    route.answer(value, "x");
const first =
  (route: { answer(value: unknown, where: string): unknown[] }) =>
  (value: unknown): unknown =>
    route.answer([value], "x")[0];
const followed = (value: unknown): unknown => parseFollowed(new Fields(value, "x"));
const event = (value: unknown): unknown => parseMonitorEvent(new Fields(value, "x"));

const MESSAGES: Record<
  string,
  readonly [message: object, parse: (value: unknown) => unknown, may: string[]]
> = {
  node: [NODE, first(SERVER.nodes), []],
  device: [REGISTERED, first(SERVER.devices), []],
  "all of a node": [DETAILS, one(SERVER.node), []],
  "event of the journal": [EVENT, first(SERVER.events), []],
  "event for who follows": [{ type: "event", event: EVENT }, followed, []],
  history: [HISTORY, one(SERVER.history), []],
  trust: [TRUST, one(SERVER.trust), []],
  status: [STATUS, one(DEVICE.status), ["doctor"]],
  answered: [{ node: null }, one(SERVER.answer), []],
  watching: [{ type: "watching" }, event, []],
  alive: [{ type: "alive" }, event, []],
  request: [{ type: "request", request: { ...PENDING, warnings: ["two of them"] } }, event, []],
  "event of an answer": [
    { type: "answered", id: "1", outcome: "denied", by: "alice@lab", node: "vpn-1", reason: "operator" },
    event,
    ["node", "reason"],
  ],
  "event of a node": [{ type: "node", node: "vpn-1", state: "down", via: "" }, event, []],
};

for (const [name, [message, parse, may]] of Object.entries(MESSAGES)) {
  describe(name, () => {
    const wire: unknown = JSON.parse(JSON.stringify(message));

    test("is read as it was sent, without what a newer version adds", () => {
      expect(parse(wire)).toEqual(message);
      expect(parse({ ...(wire as object), new: [1] })).toEqual(message);
    });

    test("is refused without a field that it must have, and with one of another type", () => {
      for (const key of Object.keys(message)) {
        const { [key]: _, ...rest } = wire as Record<string, unknown>;
        if (may.includes(key)) expect(parse(rest)).toMatchObject(rest);
        else expect(() => parse(rest)).toThrow(WaltError);
        if (key === "report") continue; // anything may come from a board
        for (const wrong of [[{}], Symbol.iterator, Number.NaN])
          expect([key, attempt(() => parse({ ...(wire as object), [key]: wrong }))]).toEqual([
            key,
            expect.stringMatching(/^x/),
          ]);
      }
    });
  });
}

function attempt(parse: () => unknown): string {
  try {
    return `no error, but ${JSON.stringify(parse())}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return messageOf(error);
  }
}

test("an event of a kind that only a newer version knows is none", () => {
  expect(event({ type: "weather" })).toBeUndefined();
});

test("strings of a peer are made safe for a terminal", () => {
  expect(first(SERVER.nodes)({ ...NODE, name: "a\u001b[2J" })).toHaveProperty("name", "a?[2J");
  expect(event({ type: "request", request: { ...PENDING, model: "\u202e" } })).toHaveProperty(
    "request.model",
    "?",
  );
});

describe("a request", () => {
  test("puts fields into path, query and body as the route says", () => {
    expect(encodeRequest(SERVER.nodes, {})).toEqual({ path: "/v1/nodes", body: undefined });
    expect(encodeRequest(SERVER.revoke, { node: "a/b %", by: "me" })).toEqual({
      path: "/v1/devices/a%2Fb%20%25/revoke",
      body: '{"by":"me"}',
    });
    expect(encodeRequest(SERVER.monitor, { name: "a&b=c" })).toEqual({
      path: "/v1/monitor?name=a%26b%3Dc",
      body: undefined,
    });
  });

  test("is found by its path, which gives its fields back", () => {
    expect(matchPath(SERVER.revoke, "/v1/devices/a%2Fb%20%25/revoke")).toEqual({ node: "a/b %" });
    for (const other of ["/v1/devices/a", "/v1/devices/a/b/revoke", "/v2/devices/a/revoke", "/"])
      expect(matchPath(SERVER.revoke, other)).toBeUndefined();
    expect(() => matchPath(SERVER.revoke, "/v1/devices/%/revoke")).toThrow(WaltError);
  });
});
