import { afterAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ServerKeys } from "../../src/server/keys.ts";
import { fingerprint, parsePublicKey, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-keys-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("the server's keys", () => {
  test("are three different ones, made once, private halves for their owner only", () => {
    const umask = process.umask(0);
    const first = ServerKeys.load(dir);
    process.umask(umask);
    const prints = first.prints;
    expect(new Set(prints).size).toBe(3);
    const folder = join(dir, "keys");
    expect(first.caFile).toBe(join(folder, "ca.pub"));
    expect(readdirSync(folder).sort()).toEqual([
      "ca",
      "ca.pub",
      "enrolment",
      "enrolment.pub",
      "host",
      "host.pub",
      "mark",
    ]);
    const modes = Object.fromEntries(
      readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mode & 0o777]),
    );
    expect(modes).toEqual({
      ...{ ca: 0o600, host: 0o600, enrolment: 0o600 },
      ...{ "ca.pub": 0o644, "host.pub": 0o644, "enrolment.pub": 0o644, mark: 0o644 },
    });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const again = ServerKeys.load(dir);
    expect(again.prints).toEqual(prints);
    expect(again.mark).toBe(fingerprint(first.of("ca").publicKey));
  });

  test("that others can read are refused, and a file in the folder's place", () => {
    chmodSync(join(dir, "keys/ca"), 0o640);
    expect(() => ServerKeys.load(dir)).toThrow(/keys\/ca has mode 640/);
    writeFileSync(join(dir, "file"), "");
    expect(() => ServerKeys.load(join(dir, "file"))).toThrow(/^cannot make .*file\/keys/);
  });

  test("a rotation: a new key beside the old one, also after a restart, then the new one alone", () => {
    const state = join(dir, "rotated");
    const keys = ServerKeys.load(state);
    const files = () => readdirSync(join(state, "keys")).filter((name) => name.startsWith("ca"));
    const old = fingerprint(keys.of("ca").publicKey);
    expect(() => keys.finish("ca")).toThrow("there is no new ca key");
    keys.begin("ca");
    const next = keys.nextOf("ca")?.publicKey ?? keys.of("ca").publicKey;
    keys.begin("ca"); // again: the same one
    expect(
      ServerKeys.load(state)
        .all("ca")
        .map((one) => fingerprint(one.publicKey)),
    ).toEqual([old, fingerprint(next)]);
    expect(keys.has("ca", next) && keys.has("ca", keys.of("ca").publicKey)).toBe(true);
    expect(keys.prints).toHaveLength(4);
    expect(statSync(join(state, "keys/ca.next")).mode & 0o777).toBe(0o600);
    keys.finish("ca");
    for (const one of [keys, ServerKeys.load(state)]) {
      expect(one.all("ca").map((pair) => fingerprint(pair.publicKey))).toEqual([fingerprint(next)]);
      expect(one.mark).toBe(old); // proxies still know this server's lines
    }
    expect(files()).toEqual(["ca", "ca.pub"]);
    expect(readFileSync(join(state, "keys/ca.pub"), "utf8")).toBe(`${publicKeyLine(next)}\n`);
  });

  test("a power cut while a rotation is finished leaves it finished", () => {
    const state = join(dir, "cut");
    const keys = ServerKeys.load(state);
    keys.begin("host");
    const next = fingerprint(keys.nextOf("host")?.publicKey ?? keys.of("host").publicKey);
    renameSync(join(state, "keys/host.next"), join(state, "keys/host")); // and nothing of what follows
    const again = ServerKeys.load(state);
    expect(again.all("host").map((one) => fingerprint(one.publicKey))).toEqual([next]);
    expect(readdirSync(join(state, "keys"))).not.toContain("host.next.pub");
    const [type = "", blob = ""] = readFileSync(join(state, "keys/host.pub"), "utf8").split(" ");
    expect(fingerprint(parsePublicKey(`${type} ${blob}`, "file"))).toBe(next);
  });
});
