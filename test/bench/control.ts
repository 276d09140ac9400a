/**
 * `bun run bench:control`: what the control channel costs. Memory of a server with many idle devices, with
 * control channel and without; how long an answer takes while the path is idle and while frames fill it; what
 * frames lose beside a log that floods. Medians of 5 runs, and the worst. Options: --runs N, --seconds N (of
 * a flow), --only PARTS (comma separated: server, device, unshaped, 20mbit), --before FILE (a binary without
 * control channel, for the part `device`), --json.
 */

import { parseArgs } from "node:util";
import { table } from "../../src/text.ts";
import { ensurePackages } from "../setup.ts";
import type { DeviceIdle } from "./control/idle.ts";
import type { ControlPath, PathRun, Times } from "./control/path.ts";
import { count, orUsage } from "./options.ts";

const { values } = orUsage(() =>
  parseArgs({
    options: {
      json: { type: "boolean", default: false },
      runs: { type: "string", default: "5" },
      seconds: { type: "string", default: "5" },
      only: { type: "string", default: "server,device,unshaped,20mbit" },
      before: { type: "string" },
    },
  }),
);
const say = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
const { waltBinary } = await import("../lab/binary.ts");
const { deviceIdle, serverIdle } = await import("./control/idle.ts");
const { LOADS, measurePath } = await import("./control/path.ts");
const { median } = await import("./stats.ts");

/** Idle devices of the part `server`. */
const DEVICES = 500;
const PATHS: readonly ControlPath[] = [
  { name: "unshaped", words: "as fast as the machine" },
  { name: "20mbit", words: "20 Mbit/s, 40 ms", shape: (wire) => wire.shape("20mbit") },
];

const runs = count("runs", values.runs, 1000);
const seconds = count("seconds", values.seconds, 3600);
const only = values.only.split(",");
for (const name of only) {
  const known = ["server", "device", ...PATHS.map((path) => path.name)];
  if (!known.includes(name)) throw new Error(`--only ${name}: none of ${known.join(", ")}`);
}

/** One figure: the median of the runs, the worst run, and what is aimed at. */
interface Figure {
  part: string;
  what: string;
  median: number;
  worst: number;
  aim: string | null;
  met: boolean | null;
}

const figures: Figure[] = [];

/** @param aim a limit for the median: at most so much, or at least so much. */
function add(
  part: string,
  what: string,
  each: readonly number[],
  aim?: { most?: number; least?: number },
): void {
  const [most, least] = [aim?.most, aim?.least];
  const middle = median(each);
  const met = most !== undefined ? middle <= most : least !== undefined ? middle >= least : null;
  const words = most !== undefined ? `≤ ${most.toFixed(0)}` : least !== undefined ? `≥ ${least}` : null;
  const worst = least === undefined ? Math.max(...each) : Math.min(...each);
  figures.push({ part, what, median: middle, worst, aim: words, met });
}

/** ms that an answer may take beyond a ping under the same load. */
const BEYOND = 20;
/** kB that a device may cost the server, and the board, beyond an idle tunnel. */
const SERVER_KB = 40;
const BOARD_KB = 2000;
/** What is left of the frames beside a log that floods: it has an eighth of the path. */
const LEFT = 0.85;

if (only.includes("server")) {
  const found = await serverIdle(DEVICES, runs, say);
  const kb = (bytes: number): number => bytes / 1000;
  add(
    "server",
    "kB a device, no control channel",
    found.map(({ without }) => kb(without.memory)),
  );
  add(
    "server",
    "kB a device that reports",
    found.map(({ reports }) => kb(reports.memory)),
  );
  const more = found.map(({ without, reports }) => kb(reports.memory - without.memory));
  add("server", "kB a device, for control", more, { most: SERVER_KB });
  add(
    "server",
    "% of a processor, no control channel",
    found.map(({ without }) => 100 * without.load),
  );
  add(
    "server",
    "% of a processor, with reports",
    found.map(({ reports }) => 100 * reports.load),
  );
}
if (only.includes("device")) {
  const { before } = values;
  const binaries = [await waltBinary(), ...(before === undefined ? [] : [before])];
  const [now = [], old] = await deviceIdle(binaries, runs, say);
  const kb = (each: readonly DeviceIdle[]): number[] => each.map(({ memory }) => memory / 1000);
  add("device", "kB, the supervisor", kb(now));
  add(
    "device",
    "processes",
    now.map(({ processes }) => processes),
  );
  if (old !== undefined) {
    add("device", "kB, the supervisor before", kb(old));
    add(
      "device",
      "processes before",
      old.map(({ processes }) => processes),
    );
    const more = now.map(({ memory }, run) => (memory - (old[run]?.memory ?? Number.NaN)) / 1000);
    add("device", "kB, for control", more, { most: BOARD_KB });
  }
}
for (const path of PATHS)
  if (only.includes(path.name)) addPath(path.words, await measurePath(path, runs, seconds, say));

function addPath(part: string, found: readonly PathRun[]): void {
  for (const load of LOADS) {
    const of = (what: keyof Times): number[] => found.map(({ times }) => median(times[load][what]));
    const words = { idle: "idle path", up: "frames to the lab", down: "frames to the node" }[load];
    const ping = of("ping");
    const most = median(ping) + BEYOND;
    add(part, `ping, ms, ${words}`, ping);
    add(part, `a key there and back, ms, ${words}`, of("key"), { most });
    add(part, `an order, ms, ${words}`, of("order"), { most });
  }
  add(
    part,
    "frames to the lab, Mbit/s",
    found.map(({ alone }) => alone),
  );
  add(
    part,
    "the same beside a log that floods",
    found.map(({ beside }) => beside),
  );
  add(
    part,
    "that log, Mbit/s",
    found.map(({ log }) => log),
  );
  add(
    part,
    "frames beside the log / alone",
    found.map(({ alone, beside }) => beside / alone),
    { least: LEFT },
  );
}

if (values.json) {
  process.stdout.write(`${JSON.stringify({ runs, figures }, null, 2)}\n`);
} else {
  const rows = figures.map(({ part, what, median, worst, aim, met }) => [
    ...[
      part,
      what,
      median.toFixed(2),
      worst.toFixed(2),
      aim ?? "",
      met === null ? "" : met ? "met" : "missed",
    ],
  ]);
  process.stdout.write(`\n${table(["PART", "WHAT", "MEDIAN", "WORST", "AIM", ""], rows)}\n`);
}
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(0);
