/**
 * Builds the self-contained binaries. `bun run build` builds all of them; `bun build.ts x64` or `bun build.ts
 * arm64` builds one. For another architecture than this machine's, Bun downloads its own runtime from the
 * package registry.
 */

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** The architectures that binaries are built for, as Node.js names them. */
export const TARGETS = ["x64", "arm64"] as const;
export type Target = (typeof TARGETS)[number];

/** Path at which a target's binary is put. */
export function binaryPath(target: Target): string {
  return join(import.meta.dir, "dist", `walt-linux-${target}`);
}

/**
 * The version of these sources: that of package.json, and where git knows more, the commits since its tag (or
 * since the beginning) and the commit, as `0.1.0+412.g1349765`. It can be a version of Debian as well
 * (deb-version(7)), and a later commit is a later version.
 */
export async function versionOf(folder = import.meta.dir): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string };
  const git = async (...words: string[]): Promise<string | undefined> => {
    if (Bun.which("git") === null || !existsSync(join(folder, ".git"))) return undefined;
    const child = Bun.spawn(["git", "-C", folder, ...words], { stdio: ["ignore", "pipe", "ignore"] });
    const text = (await child.stdout.text()).trim();
    return (await child.exited) === 0 ? text : undefined;
  };
  const isDirty = (await git("status", "--porcelain", "--untracked-files=no")) ?? "";
  const said = await git("describe", "--tags", "--long", "--match", `v${version}`);
  const [, since, commit] = /-(\d+)-g([0-9a-f]+)$/.exec(said ?? "") ?? [];
  const count = since ?? (await git("rev-list", "--count", "HEAD"));
  const hash = commit ?? (await git("rev-parse", "--short=9", "HEAD"));
  if (count === undefined || hash === undefined) return version;
  const dirty = isDirty === "" ? "" : ".dirty";
  return count === "0" && dirty === "" ? version : `${version}+${count}.g${hash}${dirty}`;
}

/**
 * Build the binary of a target.
 * @throws Error when Bun is not the version of package.json, or when the build fails.
 */
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
  // The binary is built elsewhere and then renamed, because the old binary may be running. The name of the
  // output file becomes a part of the binary, so it is always the same: the same sources must yield the same
  // binary.
  const folder = mkdtempSync(join(dirname(path), ".build-"));
  const temp = join(folder, basename(path));
  try {
    const result = await Bun.build({
      entrypoints: [join(import.meta.dir, "src/main.ts")],
      compile: { target: `bun-linux-${target}`, outfile: temp },
      // With splitting, a command loads only the modules that it uses. This halves the time of its start.
      format: "esm",
      splitting: true,
      // ssh2 uses these native addons if they are there, and works without them.
      external: ["cpu-features", "*.node"],
      define: { WALT_VERSION: JSON.stringify(await versionOf()) },
    });
    if (!result.success) throw new AggregateError(result.logs, `building for ${target} failed`);
    renameSync(temp, path);
    // Beside the binaries, for machines that cannot run them.
    copyFileSync(join(import.meta.dir, "src/walt-check.sh"), join(dirname(path), "walt-check.sh"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((word) => !TARGETS.some((t) => t === word));
  if (unknown !== undefined) {
    console.error(
      `build: ${JSON.stringify(unknown)} is not a target; the targets are: ${TARGETS.join(", ")}`,
    );
    process.exit(2);
  }
  for (const target of TARGETS) {
    if (wanted.length > 0 && !wanted.includes(target)) continue;
    const start = performance.now();
    await build(target);
    console.log(`${binaryPath(target)}  ${Math.round(performance.now() - start)} ms`);
  }
}
