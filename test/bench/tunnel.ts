/**
 * `bun run bench:tunnel`: the tunnel beside a nested ssh pipe with the same ciphers, OpenSSH's own Ethernet
 * tunnel and a plain read/write loop, over the same proxies and links, in turns; and its memory.
 */

import { parseArgs } from "node:util";
import { LANES_MAX } from "../../src/tunnel/message.ts";
import { ensurePackages } from "../setup.ts";
import { count, orUsage } from "./options.ts";
import { benchPaths } from "./tunnel/paths.ts";
import type { Results } from "./tunnel/report.ts";

const HELP = `bun run bench:tunnel [options]: measure the tunnel beside the alternatives

  --list              the paths
  --only PATHS        only these, separated by commas
  --without VARIANTS  not these: nested ssh pipe, ssh -w, plain loop, walt
  --runs N            so many, of which medians are taken (5)
  --seconds N         length of each transfer (as fits the path)
  --seed N            of what is random in the paths (1)
  --lanes N           of the tunnel (as fits the path)
  --json              figures for programs

Example: bun run bench:tunnel --only 20mbit,jitter-40 --runs 7
`;

const { values } = orUsage(
  () =>
    parseArgs({
      options: {
        help: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        runs: { type: "string", default: "5" },
        seconds: { type: "string" },
        seed: { type: "string", default: "1" },
        lanes: { type: "string" },
        only: { type: "string", default: "" },
        without: { type: "string", default: "" },
      },
    }),
  HELP,
);
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}

/** Tunnels of the part `idle`. */
const IDLE = 500;
const runs = count("runs", values.runs, 1000);
const seed = count("seed", values.seed, 1_000_000);
const seconds = values.seconds === undefined ? undefined : count("seconds", values.seconds, 3600);
const lanes = values.lanes === undefined ? undefined : count("lanes", values.lanes, LANES_MAX);
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
const results: Results = { runs, seed, paths: {} };
const options = {
  runs: results.runs,
  seconds,
  seed,
  lanes,
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
