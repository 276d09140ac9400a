/** Credentials on the disk: whole or not there, and forgotten on demand. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "../../../src/config/load.ts";
import type { Config } from "../../../src/config/schema.ts";
import { checkConfigurationFiles, deviceFiles } from "../../../src/device/files.ts";
import { forgetCredentials } from "../../../src/device/forget.ts";
import { readCredentials, writeCredentials } from "../../../src/device/identity/credentials.ts";
import { trustServerKeys } from "../../../src/device/identity/server-keys.ts";
import { serveStatus } from "../../../src/device/status.ts";
import { createLog } from "../../../src/log.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair } from "../../../src/ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../../../src/ssh/keys/key-files.ts";

let dir: string;
let config: Config;
let key: KeyPair;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "walt-credentials-"));
  config = parseConfig(`[device]\nstate = "${dir}"\nrun = "${dir}"\n`, join(dir, "vpn.toml"));
  key = loadOrCreateKey(join(dir, "device_key"), "device");
});
afterEach(() => rmSync(dir, { recursive: true }));

const ca = generateKey("ca");
function grantFor(pair: KeyPair) {
  const content = {
    serial: 1n,
    keyId: "k",
    principals: ["walt-vpn"],
    validAfter: 0,
    validBefore: 2_000_000_000,
  };
  const certificate = signCertificate(ca, { publicKey: pair.publicKey, ...content });
  return { node: "vpn-010203", mac: "52:54:00:01:02:03", certificate, renewAfter: 60 };
}

const files = () => deviceFiles(config);
function read(): { found: ReturnType<typeof readCredentials>; damaged: string[] } {
  const damaged: string[] = [];
  return { found: readCredentials(files(), key.publicKey, (why) => damaged.push(why)), damaged };
}

describe("credentials", () => {
  test("are what was granted", () => {
    expect(read()).toEqual({ found: undefined, damaged: [] });
    writeCredentials(files(), grantFor(key), new Date(0));
    expect(read()).toEqual({
      found: {
        node: "vpn-010203",
        mac: "52:54:00:01:02:03",
        renewAfter: 60,
        writtenAt: "1970-01-01T00:00:00.000Z",
      },
      damaged: [],
    });
    expect(statSync(files().credentials).mode & 0o777).toBe(0o600);
  });

  test("have the name that operators gave the node, beside the default name; one that is none is damage", () => {
    writeCredentials(files(), { ...grantFor(key), name: "lab-3" });
    expect(read().found).toMatchObject({ node: "vpn-010203", name: "lab-3" });
    writeCredentials(files(), { ...grantFor(key), name: "../../.." });
    expect(read().damaged.join()).toContain("name must be");
  });

  test("a certificate without the commit mark counts for nothing: the power was cut in between", () => {
    writeCredentials(files(), grantFor(key));
    rmSync(files().credentials);
    expect(read()).toEqual({ found: undefined, damaged: [] });
  });

  test("damaged ones count for nothing and the reason is told", () => {
    for (const [file, text, why] of [
      [files().credentials, '{"node":', "not JSON"],
      [
        files().credentials,
        '{"node":"../../..","mac":"52:54:00:01:02:03","renewAfter":1,"writtenAt":"x"}',
        "node must be",
      ],
      [files().certificate, "", "device-certificate.pub"],
    ] as const) {
      writeCredentials(files(), grantFor(key));
      writeFileSync(file, text);
      const { found, damaged } = read();
      expect(found).toBeUndefined();
      expect(damaged.join()).toContain(why);
    }
  });

  test("those of another key count for nothing", () => {
    writeCredentials(files(), grantFor(generateKey("other")));
    const { found, damaged } = read();
    expect(found).toBeUndefined();
    expect(damaged.join()).toContain("another key");
  });
});

describe("forgetting", () => {
  const all = ["credentials.json", "device-certificate.pub", "device_key", "device_key.pub"];

  test("deletes the key and all that was given, and says what", async () => {
    writeCredentials(files(), grantFor(key));
    expect(await forgetCredentials(config)).toEqual(all.map((name) => join(dir, name)));
    expect(all.some((name) => existsSync(join(dir, name)))).toBe(false);
    expect(await forgetCredentials(config)).toEqual([]);
  });

  test("is refused while the device runs", async () => {
    writeCredentials(files(), grantFor(key));
    const unasked = (): never => {
      throw new Error("nobody asks for the status");
    };
    const api = await serveStatus(files().socket, { status: unasked, illness: unasked }, createLog());
    expect(await forgetCredentials(config).catch(String)).toContain("is running");
    expect(all.every((name) => existsSync(join(dir, name)))).toBe(true);
    await api.stop();
    expect(await forgetCredentials(config)).toHaveLength(4);
  });

  test("a socket that a killed run left behind does not count", async () => {
    writeFileSync(files().socket, "");
    expect(await forgetCredentials(config)).toHaveLength(2);
  });
});

describe("what a device is given", () => {
  test("the enrolment key gets the mode that ssh insists on, wherever it lies", () => {
    writeFileSync(files().knownHosts, "walt-server ssh-ed25519 AAAA\n");
    writeFileSync(files().enrolmentKey, "a key\n", { mode: 0o755 });
    const other = {
      ...files(),
      trustedHosts: join(dir, "hosts"),
      trustedEnrolmentKeys: [join(dir, "copy"), join(dir, "copy2")] as const,
    };
    checkConfigurationFiles(other, true);
    trustServerKeys(other, true, (why) => expect(why).toBe(""));
    expect(readFileSync(other.trustedEnrolmentKeys[0], "utf8")).toBe("a key\n");
    expect(statSync(other.trustedEnrolmentKeys[0]).mode & 0o777).toBe(0o600);
  });

  test("what is missing is named", () => {
    expect(() => checkConfigurationFiles(files(), true)).toThrow("known_hosts is missing or empty");
    writeFileSync(files().knownHosts, "walt-server ssh-ed25519 AAAA\n");
    expect(() => checkConfigurationFiles(files(), true)).toThrow("enrolment_key is missing or empty");
    expect(() => deviceFiles({ ...config, file: undefined })).toThrow("no vpn.toml");
  });
});
