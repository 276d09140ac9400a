/** What the bench found, as tables, and beside what is aimed at. */

import { table } from "../../../src/text.ts";
import { median } from "../stats.ts";
import type { IdleMemory } from "./memory.ts";

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
  p50: number[];
  p99: number[];
  /** Processor seconds per GB of each process, up and down. */
  processes: Record<string, number>[];
}

export const emptySample = (): Sample => ({
  ...{ up: [], down: [], cpuUp: [], cpuDown: [], small: [], idle: [], p50: [], p99: [], processes: [] },
});

export interface PathResult {
  words: string;
  samples: Record<string, Sample>;
  /** Round trip of the bare path, ms. */
  bare: number[];
  /** The most memory that the device's process ever held, bytes. */
  deviceMemory: number;
}

export interface Results {
  runs: number;
  paths: Record<string, PathResult>;
  idle?: IdleMemory;
}

export const PIPE = "nested ssh pipe";
export const SSH_W = "ssh -w";
export const LOOP = "plain loop";
export const WALT = "walt";

/** Median over the runs of what each process cost. */
export function processes(sample: Sample): Record<string, number> {
  const names = new Set(sample.processes.flatMap((one) => Object.keys(one)));
  return Object.fromEntries(
    [...names].map((name) => [name, median(sample.processes.flatMap((one) => one[name] ?? []))]),
  );
}

const show = (list: readonly number[], digits: number): string =>
  list.length === 0 ? "-" : median(list).toFixed(digits);

export function pathTable({ words, samples, bare, deviceMemory }: PathResult, runs: number): string {
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
    show(s.p50, 1),
    show(s.p99, 1),
  ]);
  const header = [
    ...["", "UP Mbit/s", "DOWN", "UP/PIPE", "DOWN/PIPE", "CPU UP s/GB", "CPU DOWN"],
    ...["SMALL/s", "IDLE ms", "BULK p50", "BULK p99"],
  ];
  const costs = Object.entries(samples).map(([name, sample]) => {
    const parts = Object.entries(processes(sample)).map(([what, cost]) => `${what} ${cost.toFixed(2)}`);
    return `  ${name}, CPU s/GB: ${parts.join(", ")}\n`;
  });
  return (
    `\n${words}; medians of ${runs}\n${table(header, rows)}\n${costs.join("")}` +
    `  round trip of the bare path: ${show(bare, 2)} ms; walt on the device, most memory: ${mb(deviceMemory)} MB\n`
  );
}

export const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** Run by run: neighbours in time are what can be compared. */
function ratios(a: readonly number[], b: readonly number[]): number[] {
  return a.flatMap((value, i) => {
    const other = b[i];
    return other === undefined ? [] : [value / other];
  });
}

export interface Aim {
  path: string;
  what: string;
  aim: string;
  value: number;
  met: boolean;
}

/** What this run says of each aim; those that it did not measure are left out. */
export function aims(results: Results): Aim[] {
  const list: Aim[] = [];
  const add = (
    path: string,
    what: string,
    values: readonly number[],
    than: "≥" | "≤",
    limit: number,
  ): void => {
    if (values.length === 0) return;
    const value = median(values);
    const met = than === "≥" ? value >= limit : value <= limit;
    list.push({ path, what, aim: `${than} ${limit}`, value, met });
  };
  for (const [path, { samples, bare, deviceMemory }] of Object.entries(results.paths)) {
    const walt = samples[WALT];
    if (walt === undefined) continue;
    const against = (
      what: string,
      one: "up" | "down" | "cpuUp" | "cpuDown",
      other: string,
      than: "≥" | "≤",
      limit: number,
    ): void => {
      add(path, `${what} / ${other}`, ratios(walt[one], samples[other]?.[one] ?? []), than, limit);
    };
    if (path === "unshaped" || path === "direct") {
      for (const [way, cpu] of [
        ["up", "cpuUp"],
        ["down", "cpuDown"],
      ] as const) {
        against(`goodput ${way}`, way, PIPE, "≥", 0.85);
        against(`goodput ${way}`, way, SSH_W, "≥", 8);
        against(`goodput ${way}`, way, LOOP, "≥", 3);
        against(`CPU per GB ${way}`, cpu, PIPE, "≤", 1.25);
      }
      const added = walt.idle.map((rtt, i) => rtt - (bare[i] ?? Number.NaN));
      add(path, "idle RTT added, ms", added, "≤", 0.6);
      add(path, "device's process, MB", [deviceMemory / 1e6], "≤", 80);
    } else if (path === "20mbit") {
      add(path, "p99 under bulk / idle", ratios(walt.p99, walt.idle), "≤", 1.5);
      against("goodput up", "up", LOOP, "≥", 0.9);
    } else if (path === "2mbit") {
      add(path, "p99 under bulk / idle", ratios(walt.p99, walt.idle), "≤", 2);
    } else if (path === "long") {
      against("goodput up", "up", PIPE, "≥", 0.9);
      against("goodput down", "down", PIPE, "≥", 0.9);
    }
  }
  if (results.idle !== undefined) {
    add("idle", `server, kB a tunnel of ${results.idle.tunnels}`, [results.idle.each / 1000], "≤", 150);
  }
  return list;
}

export function aimTable(list: readonly Aim[]): string {
  const rows = list.map((one) => [
    ...[one.path, one.what, one.aim, one.value.toFixed(2), one.met ? "met" : "missed"],
  ]);
  return `\n${table(["PATH", "WHAT", "AIM", "IS", ""], rows)}\n`;
}
