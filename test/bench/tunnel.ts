/**
 * `bun run bench:tunnel`: the tunnel beside a nested ssh pipe with the same ciphers, OpenSSH's own Ethernet
 * tunnel and a plain read/write loop, over the same proxies and links, in turns; and its memory.
 * Options: --list (the paths), --only PATHS (comma separated), --without VARIANTS, --runs N, --seconds N,
 * --seed N (of what is random in the paths), --lanes N (of the tunnel; else as fits the path), --json.
 */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";
import { benchPaths } from "./tunnel/paths.ts";
import type { Results } from "./tunnel/report.ts";

const { values } = parseArgs({
  options: {
    list: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    runs: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    seed: { type: "string", default: "1" },
    lanes: { type: "string" },
    only: { type: "string", default: "" },
    without: { type: "string", default: "" },
  },
});
/** Tunnels of the part `idle`. */
const IDLE = 500;
const seed = Number(values.seed);
const paths = benchPaths(seed);
const idle = { name: "idle", words: `${IDLE} tunnels in which nothing happens` };
if (values.list) {
  for (const { name, words } of [...paths, idle]) process.stdout.write(`${name.padEnd(14)} ${words}\n`);
  process.exit(0);
}
const known = [...paths.map(({ name }) => name), idle.name];
const only = values.only === "" ? known : values.only.split(",");
for (const name of only) {
  if (known.includes(name)) continue;
  process.stderr.write(`--only ${name}: there is no such path. The paths are: ${known.join(", ")}\n`);
  process.exit(2);
}

const say = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
const { allowCubic } = await import("./tunnel/congestion.ts");
const { measure } = await import("./tunnel/measure-path.ts");
const { idleMemory } = await import("./tunnel/memory.ts");
const report = await import("./tunnel/report.ts");

allowCubic(say);
const results: Results = { runs: Number(values.runs), seed, paths: {} };
const options = {
  runs: results.runs,
  seconds: Number(values.seconds),
  seed,
  lanes: values.lanes === undefined ? undefined : Number(values.lanes),
  without: values.without.split(","),
};
for (const [number, path] of paths.entries()) {
  if (only.includes(path.name)) results.paths[path.name] = await measure(path, number, options, say);
}
if (only.includes(idle.name)) {
  say(idle.words);
  results.idle = await idleMemory(IDLE);
}
const aims = report.aims(results);
if (values.json) process.stdout.write(`${JSON.stringify({ ...results, aims }, null, 2)}\n`);
else process.stdout.write(report.text(results, aims));
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(0);
