/** `walt image build --node` as it is typed: what it refuses before it builds anything. */

import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { runAny } from "../../../src/linux/run.ts";
import { folder, textFile } from "../rig.ts";

const MAIN = join(import.meta.dir, "../../../src/main.ts");
const walt = (...args: string[]) => runAny([process.execPath, MAIN, "image", "build", ...args]);

test("an image that nobody could log in to, and options of the other kind of image", async () => {
  const refused = await walt("--node");
  expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining("--authorized-keys ")]);
  for (const [args, option] of [
    [["--arch", "amd64"], "--arch is for a node"],
    [["-o", "boot"], "--output is for a node"],
    [["--node", "--binary", "walt"], "--binary is for an SD card"],
  ] as const) {
    const { status, stderr } = await walt(...args);
    expect([status, stderr]).toEqual([2, expect.stringContaining(option)]);
  }
}, 60_000);

test("boot files of somebody else, and a file that has no public keys", async () => {
  using work = folder();
  mkdirSync(join(work.path, "x86_64"));
  textFile(join(work.path, "x86_64/vmlinuz"), "the lab's own");
  const keys = textFile(join(work.path, "keys"), "no key\n");
  const args = ["--node", "--arch", "amd64", "-o", work.path, "--cache", join(work.path, "cache")];
  const none = await walt(...args, "--authorized-keys", keys);
  expect([none.status, none.stderr]).toEqual([2, expect.stringContaining("is not a public key")]);
  textFile(
    keys,
    `ssh-ed25519 ${Buffer.from("\0\0\0\vssh-ed25519\0\0\0 ".padEnd(51, "k")).toString("base64")} me\n`,
  );
  const foreign = await walt(...args, "--authorized-keys", keys);
  expect([foreign.status, foreign.stderr]).toEqual([
    1,
    expect.stringContaining("x86_64/vmlinuz exists and is not"),
  ]);
}, 60_000);
