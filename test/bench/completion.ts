/** `bun run bench:completion`: ms that a Tab takes in bash with 500 nodes, and how long the program itself takes to start. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { completionScript } from "../../src/commands/_completion.ts";
import { root } from "../../src/commands/root.ts";
import { run } from "../../src/linux/run.ts";
import { waltBinary } from "../lab/binary.ts";

/** Tabs of which the median is taken. */
const TABS = 21;

const home = mkdtempSync(join(tmpdir(), "walt-completion-"));
try {
  mkdirSync(join(home, ".cache/walt"), { recursive: true });
  const names = Array.from({ length: 500 }, (_, i) => `lab-${i}\n`).join("");
  writeFileSync(join(home, ".cache/walt/nodes"), names);
  writeFileSync(join(home, "script"), await completionScript(root, "bash"));
  const bash = `source ~/script
compopt() { :; }
for i in $(seq ${TABS}); do
  COMP_WORDS=(walt node show lab-4); COMP_CWORD=3
  from=$EPOCHREALTIME; _walt; to=$EPOCHREALTIME
  echo $(( \${to/./} - \${from/./} ))
done
[ \${#COMPREPLY[@]} = 111 ] || exit 1`;
  const said = await run(["bash", "-c", bash], { env: { PATH: process.env["PATH"], HOME: home } });
  const binary = await waltBinary();
  const starts: number[] = [];
  for (let i = 0; i < TABS; i++) {
    const from = performance.now();
    await run([binary, "--version"]);
    starts.push(performance.now() - from);
  }
  const median = (all: readonly number[]): string =>
    (all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN).toFixed(1);
  console.log(
    `Tab: ${median(
      said
        .trim()
        .split("\n")
        .map((us) => Number(us) / 1000),
    )} ms`,
  );
  console.log(`walt --version: ${median(starts)} ms`);
} finally {
  rmSync(home, { recursive: true });
}
