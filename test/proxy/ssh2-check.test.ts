/** ssh2 is the version that the relay's guard was written against, and is as the guard needs it. */

import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { COMPARE, checkSsh2 } from "../../src/proxy/ssh2-check.ts";
import { SSH2_VERSION } from "../../src/proxy/ssh2-inside.ts";

const ROOT = join(import.meta.dir, "../..");
const require = createRequire(import.meta.url);
const ssh2File = (name: string): string => join(ROOT, "node_modules/ssh2/lib", name);

const undo: (() => void)[] = [];
afterEach(() => {
  for (const one of undo.splice(0)) one();
});

const versionIn = (file: string, ...path: string[]): unknown =>
  path.reduce<unknown>(
    (at, key) => (typeof at === "object" && at !== null ? (at as Record<string, unknown>)[key] : undefined),
    JSON.parse(readFileSync(join(ROOT, file), "utf8")),
  );

test("package.json asks for it, and node_modules holds it", () => {
  const found = [
    versionIn("package.json", "dependencies", "ssh2"),
    versionIn("node_modules/ssh2/package.json", "version"),
  ];
  if (found.some((version) => version !== SSH2_VERSION)) {
    throw new Error(`${COMPARE}\nThen put the new version, ${found.join(" and ")}, into ssh2-inside.ts.`);
  }
});

test("the relay finds everything as it needs it", async () => {
  await checkSsh2();
});

/** What is done to ssh2, by the place of `PLACES` that it breaks. */
const { ChannelManager } = require(ssh2File("utils.js"));
const Protocol = require(ssh2File("protocol/Protocol.js"));
const { Channel } = require(ssh2File("Channel.js"));

const { IncomingClient } = require(ssh2File("server.js"));

/** As if a field of its instances had another name. */
function hide(target: { prototype: object }, name: string): void {
  Object.defineProperty(target.prototype, name, { get: () => undefined, set: () => {}, configurable: true });
  undo.push(() => Reflect.deleteProperty(target.prototype, name));
}

function replace(target: { prototype: object }, name: string, value: unknown): void {
  const before = Object.getOwnPropertyDescriptor(target.prototype, name);
  Object.defineProperty(target.prototype, name, { value, configurable: true, writable: true });
  undo.push(() => {
    if (before === undefined) Reflect.deleteProperty(target.prototype, name);
    else Object.defineProperty(target.prototype, name, before);
  });
}

test.each<[string, () => void]>([
  ["Protocol._onPayload", () => hide(Protocol, "_onPayload")],
  ["Client.authenticated", () => hide(IncomingClient, "authenticated")],
  ["Protocol.channelOpenConfirm", () => replace(Protocol, "channelOpenConfirm", undefined)],
  ["Protocol.channelWindowAdjust", () => replace(Protocol, "channelWindowAdjust", undefined)],
  ["Protocol.channelOpenFail", () => replace(Protocol, "channelOpenFail", undefined)],
  ["Protocol.channelClose", () => replace(Protocol, "channelClose", undefined)],
  ["ChannelManager.get", () => replace(ChannelManager, "get", undefined)],
  ["ChannelManager.remove", () => replace(ChannelManager, "remove", undefined)],
  ["ssh2 opens a channel that it does not keep", () => replace(ChannelManager, "update", () => {})],
  ["data comes on the channel", () => replace(Channel, "push", () => true)],
])("without it the relay does not start, and says so: %s", async (what, breakIt) => {
  breakIt();
  const failure: unknown = await checkSsh2().catch((error: unknown) => error);
  if (!(failure instanceof WaltError)) throw new Error(`it was not noticed: ${failure}`);
  expect(failure.message).toStartWith("the relay cannot guard this version of ssh2: ");
  expect(failure.message).toContain(what);
  expect(failure.hint).toContain("ssh2 was upgraded: compare these places:");
  expect(failure.hint).toContain("lib/protocol/Protocol.js, onPayload");
});
