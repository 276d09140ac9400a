/** The binary of an earlier commit, built once from the repository's history into the cache folder. */

import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { binaryPath } from "../../build.ts";
import { messageOf } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { run } from "../../src/linux/run.ts";
import { ownTarget } from "./binary.ts";

const ROOT = join(import.meta.dir, "../..");

/** Its path, or in words why it cannot be had: a copy without history has no earlier commits. */
export async function earlierBinary(commit: string): Promise<{ path: string } | { why: string }> {
  const target = ownTarget();
  const path = join(cacheFolder(), `walt-${commit}-${target}`);
  if (existsSync(path)) return { path };
  mkdirSync(dirname(path), { recursive: true });
  const work = mkdtempSync(join(dirname(path), ".earlier-"));
  try {
    await run([
      "sh",
      "-c",
      'git -C "$0" archive "$1" > "$2/tar" && tar -xf "$2/tar" -C "$2"',
      ROOT,
      commit,
      work,
    ]);
    symlinkSync(join(ROOT, "node_modules"), join(work, "node_modules"));
    await run([process.execPath, join(work, "build.ts"), target], { timeout: 120_000 });
    renameSync(join(work, "dist", basename(binaryPath(target))), path);
    return { path };
  } catch (error) {
    return { why: `no binary of ${commit}: ${messageOf(error)}` };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
