/** `walt proxy setup` is the script, with its exit status, and leaves no file. */

import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runAny } from "../../src/linux/run.ts";

const SOURCE = `
import { setupProxy } from "${join(import.meta.dir, "../../src/proxy/setup.ts")}";
import { fingerprint, generateKey } from "${join(import.meta.dir, "../../src/ssh/keys/ed25519.ts")}";
const key = generateKey("k").publicKey;
const next = { host: "server.lab", port: 2222 };
const o = { cas: [key], enrolments: [key], mark: fingerprint(key), revoked: [], next, serverCaFile: "/nonesuch", version: "1", written: new Date() };
process.exitCode = await setupProxy(o, process.argv.slice(1));
`;

test.each([
  ["--help", 0, "stdout", "pass through this machine to server.lab:2222"],
  ["--frobnicate", 2, "stderr", "unknown option --frobnicate"],
] as const)("%s: exit status %d", async (option, status, stream, text) => {
  const folder = mkdtempSync(join(tmpdir(), "walt-setup-"));
  try {
    const command = [process.execPath, "-e", SOURCE, "--", option];
    const result = await runAny(command, { env: { ...process.env, TMPDIR: folder } });
    expect(result[stream]).toContain(text);
    expect(result.status).toBe(status);
    expect(readdirSync(folder)).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
