/** Backups of a server: made while it runs, verified, encrypted, and restored; and what is no backup. */

import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, WaltError } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { type Backup, makeBackup, openBackup, restoreBackup } from "../../src/server/backup.ts";
import { decrypt, encrypt, isEncrypted } from "../../src/server/backup-cipher.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import { Registry } from "../../src/server/registry.ts";
import { takeCopy } from "../../src/server/registry-copies.ts";
import { refuseOlder, SerialMark } from "../../src/server/serial-mark.ts";
import { fingerprint, generateKey } from "../../src/ssh/keys/ed25519.ts";

const NOW = new Date("2026-03-01T12:00:00Z");
const CONFIG = 'role = "server"\n';
const log: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => log };
let root: string;
let state: string;
const open: Registry[] = [];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "walt-backup-"));
  state = join(root, "state");
  ServerKeys.load(state);
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  rmSync(root, { recursive: true });
});

function registry(folder = state): Registry {
  const one = new Registry(join(folder, "registry.sqlite"));
  open.push(one);
  return one;
}

function accept(to: Registry, mac = "b8:27:eb:01:02:03"): void {
  const request = { mac, model: "Pi", serialNumber: "7", publicKey: generateKey("").publicKey };
  to.issue(to.accept(request, "alice", NOW), NOW, new Date(NOW.getTime() + 1000));
}

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    if (error instanceof WaltError) return messageOf(error);
    throw error;
  }
  return "nothing was thrown";
}

const prints = (folder: string): string[] => ServerKeys.load(folder).prints;

describe("a backup", () => {
  test("has what the registry has while others write to it, the keys, and the configuration", async () => {
    const live = registry();
    accept(live);
    const bytes = await makeBackup(state, CONFIG, NOW);
    accept(live, "b8:27:eb:01:02:04");
    const backup = await openBackup(bytes);
    expect(backup).toMatchObject({ taken: NOW, config: CONFIG, devices: 1 });
    expect([...backup.keys.keys()].sort()).toEqual(["ca", "enrolment", "host", "mark"]);
    expect(live.list()).toHaveLength(2);
  });

  test("is restored on an empty machine: the same keys, the same devices, nothing for others to read", async () => {
    const live = registry();
    accept(live);
    const last = live.lastSerial;
    const backup = await openBackup(await makeBackup(state, CONFIG, NOW));
    const empty = join(root, "empty");
    expect(restoreBackup(backup, empty, NOW)).toEqual({ before: [] });
    expect(prints(empty)).toEqual(prints(state));
    expect(ServerKeys.load(empty).mark).toBe(ServerKeys.load(state).mark);
    const back = registry(empty);
    expect(back.list()).toEqual(live.list());
    // No serial number of a certificate is used twice, whatever was issued after the backup.
    expect(back.lastSerial).toBeGreaterThan(last + 1000n);
    for (const file of ["keys/ca", "keys/host", "keys/enrolment", "registry.sqlite"])
      expect([file, statSync(join(empty, file)).mode & 0o777]).toEqual([file, 0o600]);
    expect(statSync(join(empty, "keys")).mode & 0o777).toBe(0o700);
  });

  test("takes the place of what is there, which is kept", async () => {
    accept(registry());
    const backup = await openBackup(await makeBackup(state, CONFIG, NOW));
    const other = join(root, "other");
    ServerKeys.load(other);
    const otherPrints = prints(other);
    registry(other).close();
    open.pop();
    const { before } = restoreBackup(backup, other, NOW);
    expect(before).toEqual([
      join(other, "keys.before-2026-03-01T120000.000Z"),
      join(other, "registry.sqlite.before-2026-03-01T120000.000Z"),
    ]);
    expect(prints(other)).toEqual(prints(state));
    expect(readdirSync(before[0] ?? "")).toContain("ca");
    expect(otherPrints).not.toEqual(prints(other));
  });

  test("keeps a rotation that is under way", async () => {
    accept(registry());
    ServerKeys.load(state).begin("ca");
    const backup = await openBackup(await makeBackup(state, CONFIG, NOW));
    restoreBackup(backup, join(root, "empty"), NOW);
    const next = ServerKeys.load(join(root, "empty")).nextOf("ca");
    expect(next && fingerprint(next.publicKey)).toBe(
      fingerprint(ServerKeys.load(state).nextOf("ca")?.publicKey ?? generateKey("").publicKey),
    );
  });

  test("is not made of a registry that is damaged or missing, or without a key", async () => {
    expect(await refusal(() => makeBackup(state, CONFIG, NOW))).toContain("there is no registry");
    accept(registry());
    rmSync(join(state, "keys/host"));
    expect(await refusal(() => makeBackup(state, CONFIG, NOW))).toContain("keys are missing");
    ServerKeys.load(state);
    open.pop()?.close();
    const path = join(state, "registry.sqlite");
    await Bun.write(path, readFileSync(path).fill(0xa5, 8192));
    expect(await refusal(() => makeBackup(state, CONFIG, NOW))).toMatch(/damaged|malformed/);
  });

  test("that is damaged, or none, is refused before anything is changed", async () => {
    accept(registry());
    const bytes = await makeBackup(state, CONFIG, NOW);
    expect(await refusal(() => openBackup(bytes.subarray(0, bytes.length - 200)))).toContain("no backup");
    expect(await refusal(() => openBackup(Buffer.from("hello")))).toContain("no backup");
    const files = Object.fromEntries(
      await Promise.all(
        [...(await new Bun.Archive(bytes).files())].map(async ([n, f]) => [n, await f.bytes()]),
      ),
    ) as Record<string, Uint8Array>;
    const packed = (some: Record<string, Uint8Array | string>): Promise<Uint8Array> =>
      new Bun.Archive(some, { compress: "gzip" }).bytes();
    const other = await packed({ ...files, "keys/ca": "another key" });
    expect(await refusal(() => openBackup(other))).toContain("keys/ca is damaged");
    const { "registry.sqlite": _, ...less } = files;
    expect(await refusal(async () => openBackup(await packed(less)))).toContain("registry.sqlite is missing");
  });

  test("never leaves its folder, whatever its names are", async () => {
    accept(registry());
    const { keys, ...rest } = await openBackup(await makeBackup(state, CONFIG, NOW));
    const backup: Backup = { ...rest, keys };
    const bytes = await makeBackup(state, CONFIG, NOW);
    const files = Object.fromEntries(
      await Promise.all(
        [...(await new Bun.Archive(bytes).files())].map(async ([n, f]) => [n, await f.bytes()]),
      ),
    ) as Record<string, Uint8Array>;
    const manifest = JSON.parse(Buffer.from(files["backup.json"] ?? "").toString()) as {
      sums: Record<string, string>;
    };
    const sum = new Bun.CryptoHasher("sha256").update("x").digest("hex");
    manifest.sums["keys/../../evil"] = sum;
    const evil = new Bun.Archive({
      ...files,
      "keys/../../evil": "x",
      "backup.json": JSON.stringify(manifest),
    });
    expect(await refusal(async () => openBackup(await evil.bytes()))).toMatch(
      /keys are not those|is missing/,
    );
    expect(existsSync(join(root, "evil"))).toBe(false);
    expect(backup.devices).toBe(1);
  });
});

describe("encryption", () => {
  const plain = Buffer.from("the keys of a server");

  test("with a passphrase: only that one opens it", async () => {
    const secret = await encrypt(plain, { passphrase: "correct horse" });
    expect([isEncrypted(secret), isEncrypted(plain)]).toEqual([true, false]);
    expect(Buffer.from(secret).includes(plain)).toBe(false);
    expect(Buffer.from(await decrypt(secret, { passphrase: "correct horse" }))).toEqual(plain);
    expect(await refusal(() => decrypt(secret, { passphrase: "wrong" }))).toContain("cannot be decrypted");
  }, 120_000);

  test("for operators' keys: each of them opens it, and no other", async () => {
    const { generateX25519Identity, identityToRecipient } = await import("age-encryption");
    const keys = [
      await generateX25519Identity(),
      await generateX25519Identity(),
      await generateX25519Identity(),
    ];
    const recipients = await Promise.all(keys.slice(0, 2).map((key) => identityToRecipient(key)));
    const secret = await encrypt(plain, { recipients });
    for (const key of keys.slice(0, 2))
      expect(Buffer.from(await decrypt(secret, { identities: [key] }))).toEqual(plain);
    expect(await refusal(() => decrypt(secret, { identities: keys.slice(2) }))).toContain(
      "cannot be decrypted",
    );
    expect(await refusal(() => encrypt(plain, { recipients: ["ssh-rsa AAAA"] }))).toContain(
      "no public key of age",
    );
    secret[secret.length - 1] = (secret.at(-1) ?? 0) ^ 1;
    expect(await refusal(() => decrypt(secret, { identities: keys.slice(0, 1) }))).toContain(
      "cannot be decrypted",
    );
  });
});

describe("a registry that is older than its keys", () => {
  /** What the daemon does at its start. */
  const start = (): Promise<string> =>
    refusal(() => {
      const one = new Registry(join(state, "registry.sqlite"));
      try {
        refuseOlder(one.path, one.lastSerial);
        new SerialMark(state, () => one.lastSerial, log).stop();
      } finally {
        one.close();
      }
    });

  test("is noticed: a new one, and one of before; with the command that puts it right", async () => {
    const live = registry();
    accept(live);
    takeCopy(state, (file) => live.copyTo(file), NOW);
    live.copyTo(join(root, "old"));
    accept(live, "b8:27:eb:01:02:04");
    open.pop();
    live.close();
    expect(await start()).toBe("nothing was thrown");
    expect(await start()).toBe("nothing was thrown");
    expect(readFileSync(join(state, "keys/serial"), "utf8")).toBe("2\n");

    rmSync(join(state, "registry.sqlite"));
    expect(await start()).toContain("older than the keys beside it: it is new and empty");
    await Bun.write(join(state, "registry.sqlite"), Bun.file(join(root, "old")));
    expect(await start()).toContain("knows certificates up to number 1, and the keys have signed number 2");
    const { hint } = await Promise.resolve(new Registry(join(state, "registry.sqlite"))).then((one) => {
      try {
        refuseOlder(one.path, one.lastSerial);
      } catch (error) {
        if (error instanceof WaltError) return error;
      } finally {
        one.close();
      }
      return { hint: "" };
    });
    expect(hint).toMatch(/walt server restore \(the copy of 20.* with 1 devices\).*rm \S+keys\/serial/);

    // A restored one is not older.
    const backup = await openBackup(await makeBackup(state, CONFIG, NOW));
    restoreBackup(backup, state, NOW);
    expect(await start()).toBe("nothing was thrown");
  });

  test("is used when the operator says so; a server without the mark, of an earlier version, starts", async () => {
    accept(registry());
    open.pop()?.close();
    expect(await start()).toBe("nothing was thrown");
    rmSync(join(state, "registry.sqlite"));
    rmSync(join(state, "keys/serial"));
    expect(await start()).toBe("nothing was thrown");
    expect(readFileSync(join(state, "keys/serial"), "utf8")).toBe("0\n");
  });

  test("a mark that cannot be written does no harm", () => {
    const one = registry();
    accept(one);
    chmodSync(join(state, "keys"), 0o500);
    new SerialMark(join(state, "missing"), () => one.lastSerial, log).stop();
    using db = new Database(one.path, { readonly: true });
    expect(db.query("SELECT 1 AS one").get()).toEqual({ one: 1 });
  });
});
