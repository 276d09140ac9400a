/**
 * Builds the self-contained binaries: `bun run build` makes all, `bun build.ts x64` or `arm64` only one.
 * Bun takes the other architecture's runtime, of its own version, from the package registry.
 */

import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export const TARGETS = ["x64", "arm64"] as const;
export type Target = (typeof TARGETS)[number];

/** Path of a target's binary. */
export function binaryPath(target: Target): string {
  return join(import.meta.dir, "dist", `walt-linux-${target}`);
}

/** @throws Error when Bun is not the pinned version, or the build fails. */
export async function build(target: Target): Promise<void> {
  const manifest: unknown = JSON.parse(readFileSync(join(import.meta.dir, "package.json"), "utf8"));
  const pinned = (manifest as { packageManager: string }).packageManager;
  if (pinned !== `bun@${Bun.version}`) {
    throw new Error(
      `this is bun@${Bun.version}, but package.json pins ${pinned}: npx --yes ${pinned} run build`,
    );
  }
  const path = binaryPath(target);
  mkdirSync(dirname(path), { recursive: true });
  // Somebody may be using the one that is there. Its name goes into the binary, which is to be the same every time.
  const folder = mkdtempSync(join(dirname(path), ".build-"));
  const temp = join(folder, basename(path));
  try {
    const result = await Bun.build({
      entrypoints: [join(import.meta.dir, "src/main.ts")],
      compile: { target: `bun-linux-${target}`, outfile: temp },
      // A command loads only what it uses: its start takes half of the time.
      format: "esm",
      splitting: true,
      // Native addons that ssh2 uses when they are there; it goes without them.
      external: ["cpu-features", "*.node"],
    });
    if (!result.success) throw new AggregateError(result.logs, `building for ${target} failed`);
    renameSync(temp, path);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((word) => !TARGETS.some((t) => t === word));
  if (unknown !== undefined) {
    console.error(`build: no target ${JSON.stringify(unknown)}; allowed: ${TARGETS.join(", ")}`);
    process.exit(2);
  }
  for (const target of TARGETS) {
    if (wanted.length > 0 && !wanted.includes(target)) continue;
    const start = performance.now();
    await build(target);
    console.log(`${binaryPath(target)}  ${Math.round(performance.now() - start)} ms`);
  }
}
