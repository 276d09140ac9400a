/** The host keys of nodes that a user has seen, and what is told of a new one. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NodeDetails } from "../../src/api/messages.ts";
import { firstKey, KnownNodes, shownKey } from "../../src/commands/node/_known-nodes.ts";
import { aboutNewKey, rebootedSince } from "../../src/commands/node/_new-host-key.ts";
import { parseReport } from "../../src/control/report.ts";

const [A, B] = ["d6:00:00:00:00:0a", "d6:00:00:00:00:0b"] as const;
const LEARNT = "2026-03-01T14:05:00.000Z";
const key = (n: number): string => `ssh-ed25519 ${Buffer.alloc(51, n).toString("base64")}`;

describe("known nodes", () => {
  let dir = "";
  let known: KnownNodes;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), "walt-known-"));
    known = new KnownNodes(join(dir, "ssh", "nodes"));
  });
  afterEach(() => rmSync(dir, { recursive: true }));
  const learn = (mac: string, n: number, name = "lab-3"): void =>
    known.learn({ mac, key: key(n), name, learnt: LEARNT });

  test("are kept by their MAC address, in a file for this user alone", () => {
    expect(known.keysOf(A)).toEqual([]);
    learn(A, 1);
    learn(B, 2, "lab-4");
    learn(A, 2);
    expect(known.keysOf(A).map((one) => one.key)).toEqual([key(1), key(2)]);
    expect(known.keysOf(B)).toEqual([{ mac: B, key: key(2), name: "lab-4", learnt: LEARNT }]);
    expect(known.othersWith(key(2), A)).toEqual(["lab-4"]);
    expect(statSync(known.path).mode & 0o777).toBe(0o600);
    expect(statSync(join(dir, "ssh")).mode & 0o777).toBe(0o700);
    expect(readFileSync(known.path, "utf8").split("\n")[0]).toBe(`${A} ${key(1)} lab-3 ${LEARNT}`);
  });

  test("a key that is learnt again is there once; of very many the newest are kept", () => {
    learn(A, 1);
    learn(A, 1);
    expect(known.keysOf(A)).toHaveLength(1);
    learn(B, 1);
    for (let n = 2; n <= 30; n++) learn(A, n);
    expect(known.keysOf(A).map((one) => one.key)).toEqual(Array.from({ length: 20 }, (_, i) => key(11 + i)));
    expect(known.keysOf(B)).toHaveLength(1);
  });

  test("lines of others stay as they are, and are no keys", () => {
    learn(A, 1);
    const text = `# mine\n@revoked * ${key(7)}\ngate ${key(8)}\n${readFileSync(known.path, "utf8")}`;
    writeFileSync(known.path, text);
    learn(B, 2);
    expect(readFileSync(known.path, "utf8")).toStartWith(text);
    expect(known.othersWith(key(7), A)).toEqual([]);
  });

  test("a key as ssh writes it, and as people compare it", () => {
    expect(firstKey(`${A} ${key(1)}\n`)).toBe(key(1));
    expect(firstKey("")).toBeUndefined();
    expect(shownKey(key(1))).toMatch(/^ED25519 SHA256:[\w+/]{43}$/);
    expect(shownKey("ecdsa-sha2-nistp256 AAAA")).toStartWith("NISTP256 SHA256:");
  });
});

test("a new key is told with those before it, the newest first, and with what may explain it", () => {
  const before = [1, 2, 3, 4].map((n) => ({ mac: A, key: key(n), name: "lab-3", learnt: LEARNT }));
  const text = aboutNewKey({ name: "lab-3", key: key(9), known: before, others: ["lab-4"], rebooted: false });
  const lines = text.split("\n");
  expect(lines[0]).toBe(`  now:    ${shownKey(key(9))}`);
  expect(lines.slice(1, 4).map((line) => line.split(/[ ,]+/)[3])).toEqual(
    [4, 3, 2].map((n) => shownKey(key(n)).split(" ")[1]),
  );
  expect(text).toContain("lab-4 showed the same key");
  expect(text).toContain("has NOT rebooted since");
  expect(
    aboutNewKey({ name: "lab-3", key: key(9), known: before, others: [], rebooted: undefined }),
  ).not.toMatch(/rebooted|same key/);
});

describe("whether a node has rebooted since its key was learnt", () => {
  const since = Date.parse(LEARNT);
  /** Received an hour after that; the board's clock is wrong. */
  const report = (facts: object): NodeDetails["report"] => ({
    receivedAt: "2026-03-01T15:05:00.000Z",
    facts: parseReport({ at: "1970-01-02T00:00:00.000Z", uptime: { supervisor: 86_000 }, ...facts }),
  });
  const ended = (at: string | null) => report({ vm: { state: "running", lastEnd: { at } } });

  test("by the virtual machine's last end", () => {
    expect(rebootedSince(ended("1970-01-01T23:30:00.000Z"), since)).toBe(true);
    expect(rebootedSince(ended("1970-01-01T22:30:00.000Z"), since)).toBe(false);
  });

  test("by the supervisor's start, where none has ended since", () => {
    expect(rebootedSince(ended(null), since)).toBe(false);
    const young = report({ vm: { state: "running" }, uptime: { supervisor: 60 } });
    expect(rebootedSince(young, since)).toBe(true);
  });

  test("is not known without a report, without a virtual machine, or of an old device", () => {
    expect(rebootedSince(null, since)).toBeUndefined();
    expect(rebootedSince(report({ vm: { state: "off" } }), since)).toBeUndefined();
    expect(rebootedSince(report({ vm: { state: "running" }, at: 7 }), since)).toBeUndefined();
    expect(rebootedSince(report({ vm: { state: "running" }, uptime: {} }), since)).toBeUndefined();
  });
});
