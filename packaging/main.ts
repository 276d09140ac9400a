/**
 * `bun run package`: Debian packages for amd64 and arm64, and an OCI image of the relay for this machine's
 * architecture, in dist/. SOURCE_DATE_EPOCH is the time of all files; that of the last commit unless given.
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { build, TARGETS, versionOf } from "../build.ts";
import { run } from "../src/linux/run.ts";
import { debianPackage } from "./debian.ts";
import { relayImage } from "./oci.ts";

const ROOT = join(import.meta.dir, "..");

/** Seconds since 1970. */
export async function sourceTime(): Promise<number> {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined && /^\d+$/.test(given)) return Number(given);
  const said = await run(["git", "-C", ROOT, "log", "-1", "--format=%ct"]).catch(() => "");
  // Without git: the day of the first version.
  return Number(said.trim()) || Date.UTC(2026, 0, 1) / 1000;
}

if (import.meta.main) {
  const output = join(ROOT, "dist");
  mkdirSync(output, { recursive: true });
  const [version, time] = [await versionOf(), await sourceTime()];
  for (const target of TARGETS) {
    await build(target);
    console.log(await debianPackage({ target, version, time, output }));
  }
  console.log(
    await relayImage({ target: process.arch === "arm64" ? "arm64" : "x64", version, time, output }),
  );
}
