/**
 * `bun run chaos`: a server, two proxies and three devices, of which processes are killed and stopped at random
 * moments, wires cut, proxies replaced and clocks moved, also while devices enrol and renew. After each round
 * the nodes must be answered, nothing may be lost, and nothing left over. Prints how long the way back took, by
 * kind of fault. Options: --rounds N (200), --seed N (a random one), --round N (this one alone), --json.
 */

import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { messageOf } from "../../src/errors.ts";
import { table } from "../../src/text.ts";
import { ensurePackages } from "../setup.ts";
import type { Round } from "./chaos.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    round: { type: "string" },
    rounds: { type: "string", default: "200" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 1_000_000)) },
  },
});
const say = (line: string): boolean => process.stderr.write(`${line}\n`);

/** A whole number that was given, of at least `least`. */
function number(name: string, text: string, least = 0): number {
  if (/^\d{1,9}$/.test(text) && Number(text) >= least) return Number(text);
  say(`--${name} ${text}: not a whole number from ${least} on`);
  process.exit(2);
}

const seed = number("seed", values.seed);
const count = number("rounds", values.rounds, 1);
const rounds =
  values.round === undefined
    ? Array.from({ length: count }, (_, i) => i + 1)
    : [number("round", values.round)];
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
const { chaos } = await import("./chaos.ts");
const { canMoveClocks } = await import("./clock.ts");
const { median } = await import("../bench/stats.ts");

// What was begun is taken away before the end, also after ^C.
const over = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => over.abort());

say(`seed ${seed}${canMoveClocks() ? "" : "; no libfaketime here, so clocks stay as they are"}`);
const done: Round[] = [];
let status = 0;
try {
  await chaos({
    ...{ seed, rounds, signal: over.signal },
    done: (round) => {
      done.push(round);
      const [back, whole] = [round.back, round.whole].map((ms) => (ms / 1000).toFixed(1));
      say(`${round.round}: ${round.faults.join("; then ")}: back ${back} s, whole ${whole} s`);
    },
  });
} catch (error) {
  say(messageOf(error));
  status = 1;
}

const kinds = [...new Set(done.map(({ kind }) => kind))].sort();
const rows = kinds.map((kind) => {
  const some = done.filter((round) => round.kind === kind);
  const of = (what: "back" | "whole"): number[] => some.map((round) => round[what] / 1000);
  const [back, whole] = [of("back"), of("whole")];
  return {
    ...{ kind, rounds: some.length, back: median(back), worstBack: Math.max(...back) },
    ...{ whole: median(whole), worstWhole: Math.max(...whole) },
  };
});
const load = loadavg()[0] ?? 0;
if (values.json) {
  process.stdout.write(
    `${JSON.stringify({ seed, failed: status !== 0, load, kinds: rows, rounds: done })}\n`,
  );
} else {
  const cells = rows.map((row) => [
    ...[row.kind, String(row.rounds)],
    ...[row.back, row.worstBack, row.whole, row.worstWhole].map((s) => s.toFixed(1)),
  ]);
  const header = ["FAULT", "ROUNDS", "BACK s", "WORST", "WHOLE s", "WORST"];
  process.stdout.write(`${table(header, cells)}\n`);
  process.stdout.write(`${done.length} rounds of seed ${seed}; load ${load.toFixed(1)} at the end\n`);
}
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(over.signal.aborted ? 130 : status);
