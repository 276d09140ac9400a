/** What the bench found, as tables, and beside what is aimed at. */

import { table } from "../../../src/text.ts";
import { median } from "../stats.ts";
import type { IdleMemory } from "./memory.ts";
import type { Limits } from "./paths.ts";

/** One variant on one path: a number for each run. */
export interface Sample {
  /** Mbit/s. */
  up: number[];
  down: number[];
  /** Processor seconds per GB, of all processes. */
  cpuUp: number[];
  cpuDown: number[];
  /** Frames of 60 bytes a second. */
  small: number[];
  /** Round trip times, ms. */
  idle: number[];
  idle99: number[];
  p50: number[];
  p99: number[];
  /** s until the full rate was there again after an outage. */
  recovery: number[];
  /** Processor seconds per GB of each process, up and down. */
  processes: Record<string, number>[];
}

export const emptySample = (): Sample => ({
  ...{ up: [], down: [], cpuUp: [], cpuDown: [], small: [], processes: [] },
  ...{ idle: [], idle99: [], p50: [], p99: [], recovery: [] },
});

export interface PathResult {
  words: string;
  limits: Limits;
  samples: Record<string, Sample>;
  /** Round trip of the bare path, ms. */
  bare: number[];
  /** The most memory that the device's process ever held, bytes. */
  deviceMemory: number;
}

export interface Results {
  runs: number;
  seed: number;
  paths: Record<string, PathResult>;
  idle?: IdleMemory;
}

export const BARE = "bare TCP";
export const PIPE = "nested ssh pipe";
export const SSH_W = "ssh -w";
export const LOOP = "plain loop";
export const WALT = "walt";

/** Median over the runs of what each process cost. */
function processes(sample: Sample): Record<string, number> {
  const names = new Set(sample.processes.flatMap((one) => Object.keys(one)));
  return Object.fromEntries(
    [...names].map((name) => [name, median(sample.processes.flatMap((one) => one[name] ?? []))]),
  );
}

const show = (list: readonly number[], digits: number): string =>
  list.length === 0 ? "-" : median(list).toFixed(digits);

function pathTable({ words, samples, bare, deviceMemory }: PathResult, { runs, seed }: Results): string {
  const pipe = samples[PIPE];
  const rows = Object.entries(samples).map(([name, s]) => [
    name,
    show(s.up, 1),
    show(s.down, 1),
    pipe === undefined ? "-" : show(ratios(s.up, pipe.up), 2),
    pipe === undefined ? "-" : show(ratios(s.down, pipe.down), 2),
    show(s.cpuUp, 2),
    show(s.cpuDown, 2),
    show(s.small, 0),
    show(s.idle, 2),
    show(s.idle99, 1),
    show(s.p50, 1),
    show(s.p99, 1),
  ]);
  const header = [
    ...["", "UP Mbit/s", "DOWN", "UP/PIPE", "DOWN/PIPE", "CPU UP s/GB", "CPU DOWN"],
    ...["SMALL/s", "IDLE ms", "IDLE p99", "BULK p50", "BULK p99"],
  ];
  const costs = Object.entries(samples).map(([name, sample]) => {
    const parts = Object.entries(processes(sample)).map(([what, cost]) => `${what} ${cost.toFixed(2)}`);
    return `  ${name}, CPU s/GB: ${parts.join(", ")}\n`;
  });
  return (
    `\n${words}; medians of ${runs}, seed ${seed}\n${table(header, rows)}\n${costs.join("")}` +
    `  round trip of the bare path: ${show(bare, 2)} ms; walt on the device, most memory: ${mb(deviceMemory)} MB\n`
  );
}

const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** Run by run: neighbours in time are what can be compared. */
function ratios(a: readonly number[], b: readonly number[]): number[] {
  return a.flatMap((value, i) => {
    const other = b[i];
    return other === undefined ? [] : [value / other];
  });
}

/**
 * How long it took until the full rate was there again after an outage.
 * @param series Mbit/s in each 100 ms.
 * @returns s from the end of the longest time of a second or more in which nothing came until the rate of half a
 *   second is 0.9 of the median before; undefined: there was none, or it ended too late to tell.
 */
export function recovery(series: readonly number[]): number | undefined {
  let [longest, end] = [9, -1];
  for (let i = 0, nothing = 0; i < series.length; i++) {
    nothing = (series[i] ?? 0) === 0 ? nothing + 1 : 0;
    if (nothing > longest) [longest, end] = [nothing, i + 1];
  }
  if (end < 0) return undefined;
  const full = 0.9 * median(series.slice(5, end - longest));
  for (let i = end; i + 5 <= series.length; i++) {
    const rate = series.slice(i, i + 5).reduce((sum, one) => sum + one, 0) / 5;
    if (rate >= full) return (i - end) / 10;
  }
  return undefined;
}

export interface Aim {
  path: string;
  what: string;
  aim: string;
  /** Median and worst of the runs. */
  value: number;
  worst: number;
  met: boolean;
}

/** What this run says of each aim; those that it did not measure are left out. */
export function aims(results: Results): Aim[] {
  const list: Aim[] = [];
  type Than = "≥" | "≤";
  for (const [path, { limits, samples, bare, deviceMemory }] of Object.entries(results.paths)) {
    const walt = samples[WALT];
    if (walt === undefined) continue;
    const add = (what: string, values: readonly number[], than: Than, limit: number | undefined): void => {
      if (values.length === 0 || limit === undefined) return;
      const value = median(values);
      const worst = than === "≥" ? Math.min(...values) : Math.max(...values);
      const met = than === "≥" ? value >= limit : value <= limit;
      list.push({ path, what, aim: `${than} ${limit}`, value, worst, met });
    };
    for (const [name, limit] of [
      [PIPE, limits.pipe],
      [SSH_W, limits.sshW],
      [LOOP, limits.loop],
    ] as const) {
      const other = samples[name];
      if (other === undefined) continue;
      add(`goodput up / ${name}`, ratios(walt.up, other.up), "≥", limit);
      add(`goodput down / ${name}`, ratios(walt.down, other.down), "≥", limit);
    }
    const pipe = samples[PIPE];
    if (pipe !== undefined) {
      add(`CPU per GB up / ${PIPE}`, ratios(walt.cpuUp, pipe.cpuUp), "≤", limits.cpu);
      add(`CPU per GB down / ${PIPE}`, ratios(walt.cpuDown, pipe.cpuDown), "≤", limits.cpu);
    }
    add("p99 under bulk / idle p99", ratios(walt.p99, walt.idle99), "≤", limits.ping);
    add(`p99 under bulk / ${LOOP}`, ratios(walt.p99, samples[LOOP]?.p99 ?? []), "≤", limits.pingLoop);
    add("p99 under bulk, ms", walt.p99, "≤", limits.pingMs);
    const added = walt.idle.map((rtt, i) => rtt - (bare[i] ?? Number.NaN));
    add("idle RTT added, ms", added, "≤", limits.added);
    add("full rate after the outage, s", walt.recovery, "≤", limits.recovery);
    add("device's process, MB", [deviceMemory / 1e6], "≤", limits.memory);
  }
  const { idle } = results;
  if (idle !== undefined) {
    const value = idle.each / 1000;
    const what = `server, kB a tunnel of ${idle.tunnels}`;
    list.push({ path: "idle", what, aim: "≤ 120", value, worst: value, met: value <= 120 });
  }
  return list;
}

/** Everything for people. */
export function text(results: Results, list: readonly Aim[]): string {
  const tables = Object.values(results.paths).map((path) => pathTable(path, results));
  const { idle } = results;
  if (idle !== undefined) {
    tables.push(
      `\n${idle.tunnels} idle tunnels: the server's memory ${mb(idle.before)} MB without, ` +
        `${mb(idle.during)} MB with them, ${(idle.each / 1000).toFixed(0)} kB each; ` +
        `${(idle.load * 100).toFixed(0)} % of a processor\n`,
    );
  }
  const rows = list.map((one) => [
    ...[one.path, one.what, one.aim, one.value.toFixed(2), one.worst.toFixed(2), one.met ? "met" : "missed"],
  ]);
  return `${tables.join("")}\n${table(["PATH", "WHAT", "AIM", "MEDIAN", "WORST", ""], rows)}\n`;
}
