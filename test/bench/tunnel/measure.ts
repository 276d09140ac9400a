/** What the bench measures on hosts of the laboratory: goodput, processor time, round trips. */

import { readFileSync } from "node:fs";
import type { Host } from "../../lab/host.ts";

const FLOOD = [process.execPath, new URL("./flood.ts", import.meta.url).pathname];
export const flood = (...args: (string | number)[]): string[] => [...FLOOD, ...args.map(String)];
/** A new one each time: what is still under way of a flow that was given up must not meet the next. */
let port = 20_000;
/** sysconf(_SC_CLK_TCK). */
const TICKS = 100;

export interface Flow {
  /** Mbit/s, at the receiver. */
  goodput: number;
  /** The same in each 100 ms. */
  series: number[];
  /** Processor seconds per GB of each process but those that make and take the bytes. */
  cpu: Record<string, number>;
  cpuTotal: number;
}

/** What a flood moved. */
export interface Moved {
  bytes: number;
  /** From the first byte to the last. */
  mbits: number;
  /** Mbit/s in each 100 ms. */
  series: number[];
}

/** Of the line `BYTES SECONDS SERIES` of a flood. */
export function parseFlood(text: string): Moved {
  const [bytes = "0", seconds = "0", series = ""] = text.trim().split(" ");
  const rates = series.split(",").map((n) => (Number(n) * 8) / 100_000);
  return { bytes: Number(bytes), mbits: (Number(bytes) * 8) / Number(seconds) / 1e6, series: rates };
}

/** Processor time so far in s, of every process of the hosts, by id. */
function times(hosts: readonly Host[]): Map<number, { name: string; seconds: number }> {
  const found = new Map<number, { name: string; seconds: number }>();
  for (const host of hosts) {
    for (const { pid, command } of host.processes()) {
      // An ssh whose remote command is a flood is what is measured, not the flood.
      if (/^\S+ \S*flood\.ts|^ping |^sh |^nsenter /.test(command)) continue;
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const seconds = (Number(fields[11]) + Number(fields[12])) / TICKS;
        const program = /ssh(d)?\b|walt|plain-loop/.exec(command)?.[0] ?? command.split(" ")[0] ?? "";
        found.set(pid, { name: `${host.name}: ${program}`, seconds });
      } catch {
        // it ended
      }
    }
  }
  return found;
}

/** Let `body` move bytes, and count what it cost. */
export async function costed(hosts: readonly Host[], body: () => Promise<Moved>): Promise<Flow> {
  const before = times(hosts);
  // What ends before the flow does has been seen shortly before.
  const seen = new Map(before);
  const look = (): void => {
    for (const [pid, one] of times(hosts)) seen.set(pid, one);
  };
  const timer = setInterval(look, 400);
  const { bytes, mbits, series } = await body();
  clearInterval(timer);
  look();
  const cpu: Record<string, number> = {};
  let cpuTotal = 0;
  for (const [pid, { name, seconds }] of seen) {
    const spent = (seconds - (before.get(pid)?.seconds ?? 0)) / (bytes / 1e9);
    if (spent <= 0) continue;
    cpu[name] = (cpu[name] ?? 0) + spent;
    cpuTotal += spent;
  }
  return { goodput: mbits, series, cpu, cpuTotal };
}

/** TCP from one host to another for so many seconds. @param flows so many connections at the same time. */
export async function tcp(from: Host, to: Host, address: string, seconds: number, flows = 1): Promise<Moved> {
  return together(
    await Promise.all(Array.from({ length: flows }, () => oneFlow(from, to, address, seconds))),
  );
}

async function oneFlow(from: Host, to: Host, address: string, seconds: number): Promise<Moved> {
  const own = ++port;
  const sink = to.spawn(flood("sink", own));
  await sink.waitFor(/listening/);
  await from.must(flood("source", address, own, seconds), { timeout: seconds * 1000 + 60_000 });
  const [line] = await sink.waitFor(/\d+ [\d.]+ [\d,]+\n/, { timeout: 60_000 });
  await sink.stop("SIGKILL");
  return parseFlood(line);
}

/** What flows that began at the same time moved: the time is that of the longest. */
function together(flows: readonly Moved[]): Moved {
  const bytes = flows.reduce((sum, flow) => sum + flow.bytes, 0);
  const seconds = Math.max(...flows.map((flow) => (flow.bytes * 8) / flow.mbits / 1e6));
  const length = Math.max(...flows.map((flow) => flow.series.length));
  const series = Array.from({ length }, (_, i) =>
    flows.reduce((sum, flow) => sum + (flow.series[i] ?? 0), 0),
  );
  return { bytes, mbits: (bytes * 8) / seconds / 1e6, series };
}

/** The smallest UDP datagrams, as many as go: how many arrive a second. */
export async function smallFrames(from: Host, to: Host, address: string, seconds: number): Promise<number> {
  port++;
  const counter = to.spawn(flood("count", port));
  await counter.waitFor(/listening/);
  await from.must(flood("drip", address, port, seconds), { timeout: seconds * 1000 + 60_000 });
  const [line] = await counter.waitFor(/\d+ [\d.]+\n/, { timeout: 60_000 });
  const [datagrams = 0, time = 0] = line.trim().split(" ").map(Number);
  return datagrams / time;
}

/** Round trips in ms, one every `interval` s. A ping that is lost counts as the time that was waited for it. */
export async function pings(from: Host, address: string, count: number, interval: number): Promise<number[]> {
  const { stdout } = await from.run(
    ["ping", "-n", "-c", String(count), "-i", String(interval), "-W", "3", address],
    { timeout: count * interval * 1000 + 30_000 },
  );
  const times = [...stdout.matchAll(/time=([\d.]+) ms/g)].map((m) => Number(m[1]));
  const lost = Math.max(0, count - times.length);
  return [...times, ...Array<number>(lost).fill(3000)];
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((x, y) => x - y);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}
