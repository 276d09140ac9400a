/** The compiled binary that integration tests, demo and benches use. */

import { statSync } from "node:fs";
import { binaryPath, type Target } from "../../build.ts";
import { run } from "../../src/linux/run.ts";

const ROOT = `${import.meta.dir}/../..`;
const made = new Map<Target, Promise<string>>();

/** This machine's architecture, as the binaries are named. */
export function ownTarget(): Target {
  return process.arch === "arm64" ? "arm64" : "x64";
}

/** Path of the binary; built first where it is missing or older than a source. */
export function waltBinary(target: Target = ownTarget()): Promise<string> {
  const found = made.get(target) ?? ensure(target);
  made.set(target, found);
  return found;
}

async function ensure(target: Target): Promise<string> {
  const path = binaryPath(target);
  const built = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = ["src/**/*", "device/**/*", "*.{ts,json,lock}"].flatMap((glob) => [
    ...new Bun.Glob(glob).scanSync(ROOT),
  ]);
  if (sources.length < 10) throw new Error(`no sources in ${ROOT}`);
  if (sources.some((file) => statSync(`${ROOT}/${file}`).mtimeMs > built)) {
    // In a process of its own: one that has just installed the npm packages still believes that there are none.
    await run([process.execPath, `${ROOT}/build.ts`, target], { timeout: 120_000 });
  }
  return path;
}
