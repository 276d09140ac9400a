import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadServerKeys } from "../../src/server/keys.ts";
import { fingerprint } from "../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-keys-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("the server's keys", () => {
  test("are three different ones, made once, private halves for their owner only", () => {
    const umask = process.umask(0);
    const first = loadServerKeys(dir);
    process.umask(umask);
    const prints = [first.ca, first.host, first.enrolment].map((pair) => fingerprint(pair.publicKey));
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
    ]);
    const modes = Object.fromEntries(
      readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mode & 0o777]),
    );
    expect(modes).toEqual({
      ...{ ca: 0o600, host: 0o600, enrolment: 0o600 },
      ...{ "ca.pub": 0o644, "host.pub": 0o644, "enrolment.pub": 0o644 },
    });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    const again = loadServerKeys(dir);
    expect([again.ca, again.host, again.enrolment].map((pair) => fingerprint(pair.publicKey))).toEqual(
      prints,
    );
  });

  test("that others can read are refused, and a file in the folder's place", () => {
    chmodSync(join(dir, "keys/ca"), 0o640);
    expect(() => loadServerKeys(dir)).toThrow(/keys\/ca has mode 640/);
    writeFileSync(join(dir, "file"), "");
    expect(() => loadServerKeys(join(dir, "file"))).toThrow(/^cannot make .*file\/keys/);
  });
});
