/** What the README's two commands do first. Only Bun itself is needed to load this file. */

import { existsSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "..");

/** Install the npm packages of bun.lock, where they are missing or the lock file is newer. */
export async function ensurePackages(say: (line: string) => void): Promise<void> {
  const stamp = join(ROOT, "node_modules/.walt-lock");
  const lock = await Bun.file(join(ROOT, "bun.lock")).text();
  const hash = Bun.hash(lock).toString(16);
  if (existsSync(stamp) && (await Bun.file(stamp).text()) === hash) return;
  say("installing npm packages: bun install --frozen-lockfile");
  const child = Bun.spawn([process.execPath, "install", "--frozen-lockfile"], {
    cwd: ROOT,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const stderr = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`bun install failed:\n${stderr}`);
  await Bun.write(stamp, hash);
}
