/** One path of the bench: all variants on it, one after the other in each run. */

import { INTERNET } from "../../lab/lab.ts";
import { World } from "../../lab/world.ts";
import { median } from "../stats.ts";
import { useCubic } from "./congestion.ts";
import { Foreign } from "./foreign.ts";
import { costed, type Flow, pings, quantile } from "./measure.ts";
import { memoryOf } from "./memory.ts";
import type { BenchPath } from "./paths.ts";
import {
  BARE,
  emptySample,
  LOOP,
  type PathResult,
  PIPE,
  recovery,
  type Sample,
  SSH_W,
  WALT,
} from "./report.ts";
import { bareRtt, startPlainServer, type Variant, variants } from "./variants.ts";
import { FAR, Wire } from "./wire.ts";

const NAMES = { bare: BARE, pipe: PIPE, "ssh -w": SSH_W, loop: LOOP } as const;
/** Pings on the idle path. */
const IDLE_PINGS = 60;
/** s after which pings begin under bulk: past the beginning of the flow. */
const LEAD = 1;

export interface MeasureOptions {
  readonly runs: number;
  /** s of bulk; undefined: as the path says. */
  readonly seconds: number | undefined;
  readonly seed: number;
  /** Lanes of the tunnel; undefined: as the path says. */
  readonly lanes: number | undefined;
  /** Names of variants that are left out. */
  readonly without: readonly string[];
}

/** @param number of the path: it becomes a part of addresses. @param say is told the figures of each run. */
export async function measure(
  path: BenchPath,
  number: number,
  o: MeasureOptions,
  say: (line: string) => void,
): Promise<PathResult> {
  await using world = await World.create({ proxies: path.direct === true ? 0 : 1 });
  await startPlainServer(world);
  const wire = path.model === undefined ? undefined : await Wire.lay(world);
  await wire?.shape(path.name, o.seed);
  const device = await world.device("device", { network: wire === undefined ? INTERNET : FAR });
  await wire?.admit(device.host, number);
  const way = path.model?.foreign;
  const foreign =
    wire === undefined || way === undefined ? undefined : await Foreign.move(world, wire, way, number + 1);
  const hosts = [device.host, world.server, ...world.proxies.map((p) => p.host)];
  await useCubic([...hosts, ...Object.values(foreign?.hosts ?? {})], say);
  const { all, node } = await variants(world, device, {
    net: number,
    lanes: o.lanes ?? path.lanes,
    flows: path.flows ?? 1,
    address: wire?.address(number),
  });
  await useCubic([node], say);
  const names = [...path.beside.map((one) => NAMES[one]), WALT];
  const compared = all.filter(({ name }) => names.includes(name) && !o.without.includes(name));
  const samples: Record<string, Sample> = {};
  const bare: number[] = [];

  /** Begin the path anew, with the foreign flow on it. */
  const onPath = async <T>(body: () => Promise<T>): Promise<T> => {
    wire?.restart();
    return foreign === undefined ? await body() : await foreign.during(body);
  };
  /** Bulk one way, and pings beside it. */
  const loaded = async (variant: Variant, to: "up" | "down", seconds: number): Promise<[Flow, number[]]> => {
    const { ping } = variant;
    const flow = costed(hosts, () => variant[to](seconds));
    if (ping === undefined || to === "down") return [await flow, []];
    await Bun.sleep(LEAD * 1000);
    const count = Math.round((seconds - LEAD) / path.every);
    const times = await pings(ping.from, ping.to, count, path.every);
    return [await flow, times];
  };

  for (let run = 0; run < o.runs; run++) {
    bare.push(await bareRtt(world, device.host));
    for (const variant of compared) {
      const sample = samples[variant.name] ?? emptySample();
      samples[variant.name] = sample;
      const seconds = o.seconds ?? path.seconds;
      const { ping, small } = variant;
      if (ping !== undefined) {
        const times = await onPath(() => pings(ping.from, ping.to, IDLE_PINGS, path.every));
        sample.idle.push(median(times));
        sample.idle99.push(quantile(times, 0.99));
      }
      const [up, times] = await onPath(() => loaded(variant, "up", seconds));
      sample.up.push(up.goodput);
      sample.cpuUp.push(up.cpuTotal);
      sample.processes.push(prefixed("up", up.cpu));
      const again = recovery(up.series);
      if (again !== undefined) sample.recovery.push(again);
      if (times.length > 0) {
        sample.p50.push(quantile(times, 0.5));
        sample.p99.push(quantile(times, 0.99));
      }
      if (path.down) {
        const [down] = await onPath(() => loaded(variant, "down", seconds));
        sample.down.push(down.goodput);
        sample.cpuDown.push(down.cpuTotal);
        sample.processes.push(prefixed("down", down.cpu));
      }
      if (path.small && small !== undefined) sample.small.push(await small(1));
      const figures = Object.entries(sample).flatMap(([what, list]) => {
        const last: unknown = list.at(-1);
        return typeof last === "number" ? [`${what} ${last.toFixed(2)}`] : [];
      });
      say(`${path.name} ${run + 1}/${o.runs} ${variant.name}: ${figures.join(" ")}`);
    }
  }
  const deviceMemory = memoryOf(device.process?.pid ?? 0, "VmHWM");
  return { words: path.words, limits: path.limits, samples, bare, deviceMemory };
}

function prefixed(way: string, costs: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(costs).map(([name, cost]) => [`${way} ${name}`, cost]));
}
