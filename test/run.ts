/** `bun run test`: what is missing is installed, then lint, types and all tests. Ends with the plain line `N passed, N failed`. */

import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ensurePackages } from "./setup.ts";

const ROOT = join(import.meta.dir, "..");
const say = (line: string): boolean => process.stdout.write(`${line}\n`);

/** Run a program with its output shown as it comes; exit status and the output's end. */
async function show(command: string[]): Promise<{ status: number; output: string }> {
  const child = Bun.spawn(command, { cwd: ROOT, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  let output = "";
  const pass = async (stream: ReadableStream<Uint8Array>, to: NodeJS.WriteStream): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      to.write(bytes);
      output = (output + decoder.decode(bytes, { stream: true })).slice(-100_000);
    }
  };
  await Promise.all([pass(child.stdout, process.stdout), pass(child.stderr, process.stdout)]);
  return { status: await child.exited, output };
}

const counts = { passed: 0, failed: 0, skipped: 0 };

await ensurePackages(say);
if (process.geteuid?.() === 0) {
  const { installPackages } = await import("./lab/packages.ts");
  await installPackages(say);
}

for (const [name, command] of [
  ["lint and format", ["biome", "check", "--error-on-warnings", "."]],
  ["types", ["tsc", "--noEmit"]],
  ["types of the page", ["tsc", "--noEmit", "--project", "src/web"]],
] as const) {
  const { status } = await show([join(ROOT, "node_modules/.bin", command[0]), ...command.slice(1)]);
  say(`${status === 0 ? "passed" : "FAILED"}: ${name}`);
  if (status === 0) counts.passed++;
  else counts.failed++;
}

if (process.geteuid?.() === 0) {
  // Made before the tests, of which several would begin with it at the same time.
  const { waltBinary } = await import("./lab/binary.ts");
  await waltBinary().catch((error: unknown) => say(`no binary: ${error}`));
}

// A file of integration tests waits for about a third of its time: for silences, retries, a machine that boots.
const workers = Math.ceil(1.5 * availableParallelism());
say(`bun test, ${workers} files at a time`);
// Laboratories do not see each other, so that several files may have one at the same time. The timeout is longer than Bun's own 5 s, for
// hooks too: what counts is that a test ends, not how busy the machine is.
const { status, output } = await show([
  process.execPath,
  "test",
  "--timeout=120000",
  `--parallel=${workers}`,
  ...process.argv.slice(2),
]);
const count = (word: string): number =>
  Number(new RegExp(`^\\s*(\\d+) ${word}$`, "m").exec(output.slice(-4000))?.[1] ?? 0);
counts.passed += count("pass");
counts.failed += count("fail");
counts.skipped += count("skip");
// A run that broke down before it could count is a failure too.
if (status !== 0 && count("fail") === 0) counts.failed++;

say(
  `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ""}`,
);
process.exit(counts.failed === 0 && status === 0 ? 0 : 1);
