/** Which keys of the server a device believes: those of its card, and what the server has said since. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  removeTrustedKeys,
  trustServerKeys,
  writeServerKeys,
} from "../../../src/device/identity/server-keys.ts";
import { fingerprint, generateKey, publicKeyLine } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey, loadKey } from "../../../src/ssh/keys/key-files.ts";
import { pinnedKeys } from "../../../src/ssh/keys/known-hosts.ts";

let dir: string;
let damage: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-server-keys-"));
  for (const folder of ["card", "state", "run"]) mkdirSync(join(dir, folder));
  damage = [];
});
afterEach(() => rmSync(dir, { recursive: true }));

const host = generateKey("host");
const proxy = generateKey("proxy");
const enrolment = generateKey("enrolment");
const files = () => ({
  knownHosts: join(dir, "card/known_hosts"),
  enrolmentKey: join(dir, "card/enrolment_key"),
  serverKeys: join(dir, "state/server-keys.json"),
  trustedHosts: join(dir, "run/known_hosts"),
  trustedEnrolmentKeys: [join(dir, "run/enrolment_key"), join(dir, "run/enrolment_key_2")] as const,
});
const line = (name: string, pair = host) => `${name} ${publicKeyLine({ ...pair.publicKey, comment: "" })}\n`;
function card(pair = host): void {
  writeFileSync(files().knownHosts, line("walt-server", pair) + line("gate.example.org:22", proxy));
  writeFileSync(files().enrolmentKey, encodePrivateKey(enrolment));
}

/** What is believed now: host keys of the server, of the proxy, and enrolment keys. */
function believed(): string[][] {
  trustServerKeys(files(), true, (why) => damage.push(why));
  const text = readFileSync(files().trustedHosts, "utf8");
  return [
    pinnedKeys(text, "walt-server", "test").map(fingerprint),
    pinnedKeys(text, "gate.example.org:22", "test").map(fingerprint),
    files()
      .trustedEnrolmentKeys.filter((file) => existsSync(file))
      .map((file) => fingerprint(loadKey(file).publicKey)),
  ];
}
const prints = (...pairs: (typeof host)[]) => pairs.map((one) => fingerprint(one.publicKey));

test("those of the card, until the server has said something", () => {
  card();
  expect(believed()).toEqual([prints(host), prints(proxy), prints(enrolment)]);
});

test("what the server said last, in the place of the card's; proxies' stay", () => {
  card();
  const [next, newer] = [generateKey("next"), generateKey("newer")];
  writeServerKeys(files(), {
    hostKeys: [host, next].map((one) => publicKeyLine(one.publicKey)),
    enrolmentKeys: [newer, enrolment].map(encodePrivateKey),
  });
  expect(believed()).toEqual([prints(host, next), prints(proxy), prints(newer, enrolment)]);
  writeServerKeys(files(), {
    hostKeys: [publicKeyLine(next.publicKey)],
    enrolmentKeys: [encodePrivateKey(newer)],
  });
  expect(believed()).toEqual([prints(next), prints(proxy), prints(newer)]);
  expect(statSync(files().serverKeys).mode & 0o777).toBe(0o600);
  removeTrustedKeys(files());
  expect(files().trustedEnrolmentKeys.some((file) => existsSync(file))).toBe(false);
});

test("those of the card again, when it is another card", () => {
  card();
  const said = {
    hostKeys: [publicKeyLine(generateKey("next").publicKey)],
    enrolmentKeys: [encodePrivateKey(enrolment)],
  };
  writeServerKeys(files(), said);
  const other = generateKey("another server");
  card(other);
  expect(believed()).toEqual([prints(other), prints(proxy), prints(enrolment)]);
  expect(damage).toEqual([]);
});

test("those of the card, with a word about it, when what the server said is damaged", () => {
  card();
  for (const text of ["", "{", '{"card":"x","hostKeys":[],"enrolmentKeys":["k"]}']) {
    writeFileSync(files().serverKeys, text);
    expect(believed()).toEqual([prints(host), prints(proxy), prints(enrolment)]);
  }
  expect(damage).toHaveLength(3);
});

test("files of a card that were edited on another system are read as they were meant", () => {
  card();
  trustServerKeys(files(), true, (why) => damage.push(why));
  const [hosts, key] = [readFileSync(files().trustedHosts), readFileSync(files().trustedEnrolmentKeys[0])];
  for (const file of [files().knownHosts, files().enrolmentKey]) {
    const text = readFileSync(file, "utf8");
    writeFileSync(file, `\uFEFF${text.replaceAll("\n", " \r\n").trimEnd()}`);
  }
  trustServerKeys(files(), true, (why) => damage.push(why));
  expect(readFileSync(files().trustedHosts)).toEqual(hosts);
  expect(readFileSync(files().trustedEnrolmentKeys[0])).toEqual(key);
  expect(loadKey(files().trustedEnrolmentKeys[0]).publicKey.blob).toEqual(enrolment.publicKey.blob);
  expect(damage).toEqual([]);
});
