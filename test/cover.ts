/**
 * `bun run cover [test file or folder …]`: which lines of `src/` no test runs. Without arguments the tests that run in this process are run:
 * all but those of test/integration/ and test/demo/, whose programs are processes of their own, in which Bun measures nothing.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const ROOT = join(import.meta.dir, "..");
/** Folders of tests whose subjects are other processes. */
const ELSEWHERE = ["integration", "demo"];

/** Lines that no test runs: from the first to the last, and how many of those in between hold code. */
export interface Gap {
  readonly from: number;
  readonly to: number;
  readonly lines: number;
}

/**
 * How often each line of each file was run, of a report in lcov's format (geninfo(1): `SF:` begins a file, `DA:` is line and count). A file
 * that is there more than once was run that often in all.
 */
export function parseLcov(text: string): Map<string, Map<number, number>> {
  const files = new Map<string, Map<number, number>>();
  let lines = new Map<number, number>();
  for (const record of text.split("\n")) {
    const file = /^SF:(.+)$/.exec(record)?.[1];
    if (file !== undefined) {
      lines = files.get(file) ?? new Map<number, number>();
      files.set(file, lines);
    }
    const [, line, count] = /^DA:(\d+),(\d+)/.exec(record) ?? [];
    if (line !== undefined) lines.set(Number(line), (lines.get(Number(line)) ?? 0) + Number(count));
  }
  return files;
}

/** Where a file was not run. Lines without code, such as comments, neither begin a gap nor end one. */
export function gapsOf(lines: ReadonlyMap<number, number>): Gap[] {
  const gaps: Gap[] = [];
  let open: Gap | undefined;
  for (const [line, count] of [...lines].sort(([a], [b]) => a - b)) {
    if (count > 0) {
      if (open !== undefined) gaps.push(open);
      open = undefined;
    } else {
      open = { from: open?.from ?? line, to: line, lines: (open?.lines ?? 0) + 1 };
    }
  }
  return open === undefined ? gaps : [...gaps, open];
}

async function main(): Promise<void> {
  const given = process.argv.slice(2);
  const all = [...new Bun.Glob("test/**/*.test.ts").scanSync(ROOT)];
  const measured = all.filter((file) => !ELSEWHERE.some((folder) => file.startsWith(`test/${folder}/`)));
  const folder = mkdtempSync(join(tmpdir(), "walt-cover-"));
  try {
    const report = ["--coverage", "--coverage-reporter=lcov", `--coverage-dir=${folder}`];
    const tests = given.length > 0 ? given : measured.sort().map((file) => `./${file}`);
    const child = Bun.spawn([process.execPath, "test", "--timeout=120000", ...report, ...tests], {
      cwd: ROOT,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    const said = await new Response(child.stderr).text();
    if ((await child.exited) !== 0)
      process.stderr.write(`${said}\nsome tests failed: what they run may be missing below\n`);
    print(parseLcov(readFileSync(join(folder, "lcov.info"), "utf8")));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function print(files: ReadonlyMap<string, ReadonlyMap<number, number>>): void {
  const run = new Map([...files].map(([file, lines]) => [relative(ROOT, join(ROOT, file)), lines]));
  const sources = [...new Bun.Glob("src/**/*.ts").scanSync(ROOT)].filter((file) => !file.endsWith(".d.ts"));
  const found = sources.flatMap((file) =>
    gapsOf(run.get(file) ?? new Map()).map((gap) => ({ file, ...gap })),
  );
  for (const { file, from, to, lines } of found.sort((a, b) => b.lines - a.lines))
    console.log(`${file}:${from}-${to} (${lines})`);
  const unloaded = sources.filter((file) => !run.has(file)).sort();
  if (unloaded.length > 0)
    console.log(`\nNot loaded by these tests, or of types only:\n${unloaded.join("\n")}`);
  const code = sources.flatMap((file) => [...(run.get(file) ?? new Map<number, number>()).values()]);
  const share = (100 * code.filter((count) => count > 0).length) / Math.max(1, code.length);
  console.log(
    `\n${share.toFixed(1)} % of ${code.length} lines in ${sources.length - unloaded.length} files are run.`,
  );
}

if (import.meta.main) await main();
