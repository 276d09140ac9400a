/**
 * `bun run bench:tunnel`: the tunnel beside a nested ssh pipe with the same ciphers, OpenSSH's own Ethernet tunnel and a plain
 * read/write loop, over the same proxies, all in one run, one after the other, medians of at least 5; and its memory.
 * Options: --runs N, --seconds N, --only PATHS (comma separated: unshaped, direct, 20mbit, 2mbit, long, idle), --without VARIANTS,
 * --json.
 */

import { parseArgs } from "node:util";
import type { Host } from "../lab/host.ts";
import { ensurePackages } from "../setup.ts";
import type { PathResult, Results, Sample } from "./tunnel/report.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    runs: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    only: { type: "string", default: "unshaped,direct,20mbit,2mbit,long,idle" },
    without: { type: "string", default: "" },
  },
});
const say = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
const { INTERNET } = await import("../lab/lab.ts");
const { World } = await import("../lab/world.ts");
const { median } = await import("./stats.ts");
const { costed, pings, quantile } = await import("./tunnel/measure.ts");
const { idleMemory, memoryOf } = await import("./tunnel/memory.ts");
const report = await import("./tunnel/report.ts");
const { bareRtt, startPlainServer, variants } = await import("./tunnel/variants.ts");
const { FAR, Wire } = await import("./tunnel/wire.ts");

interface Path {
  name: string;
  words: string;
  /** No proxy. */
  direct?: boolean;
  /** Mbit/s, ms each way, bytes of queue, per cent of loss. */
  wire?: [rate: number, delay: number, queue: number, loss: number];
  /** Pings, and s between them; the bulk under which they are lasts as long. */
  pings: [count: number, interval: number];
  down: boolean;
  small: boolean;
  /** s of bulk at least: of a shorter flow half is its own beginning. */
  least?: number;
  /** What there is nothing to learn from here. */
  without?: string[];
}

const PATHS: Path[] = [
  { name: "unshaped", words: "Unshaped", pings: [100, 0.02], down: true, small: true },
  { name: "direct", words: "Unshaped, no proxy", direct: true, pings: [100, 0.02], down: true, small: true },
  {
    name: "20mbit",
    words: "20 Mbit/s, 40 ms",
    wire: [20, 20, 250_000, 0],
    ...{ pings: [150, 0.02], down: true, small: false },
  },
  {
    name: "2mbit",
    words: "2 Mbit/s, 200 ms, 1 % loss",
    wire: [2, 100, 64_000, 1],
    ...{ pings: [120, 0.05], down: false, small: false },
  },
  {
    name: "long",
    words: "Unshaped rate, 100 ms",
    wire: [0, 50, 16_000_000, 0],
    ...{ pings: [30, 0.1], down: true, small: false, least: 8, without: [report.SSH_W] },
  },
];
/** Tunnels of the part `idle`. */
const IDLE = 500;

const runs = Number(values.runs);
const seconds = Number(values.seconds);
const only = values.only.split(",");
const without = values.without.split(",");
const known = [...PATHS.map((path) => path.name), "idle"];
for (const name of only)
  if (!known.includes(name)) throw new Error(`--only ${name}: none of ${known.join(", ")}`);
const results: Results = { runs, paths: {} };

for (const [index, path] of PATHS.entries()) {
  if (only.includes(path.name)) results.paths[path.name] = await measure(path, index);
}
if (only.includes("idle")) {
  say(`${IDLE} idle tunnels`);
  results.idle = await idleMemory(IDLE);
}

async function measure(path: Path, index: number): Promise<PathResult> {
  await using world = await World.create({ proxies: path.direct === true ? 0 : 1 });
  await startPlainServer(world);
  const wire = path.wire === undefined ? undefined : await Wire.lay(world);
  if (path.wire !== undefined) await wire?.shape(...path.wire);
  const device = await world.device("device", { network: wire === undefined ? INTERNET : FAR });
  await wire?.admit(device.host, index);
  const hosts = [device.host, world.server, ...world.proxies.map((p) => p.host)];
  await usePlainTcp(hosts);
  const { all, node } = await variants(world, device, index);
  await usePlainTcp([node]);
  const left = all.filter(({ name }) => !without.includes(name) && path.without?.includes(name) !== true);
  const samples: Record<string, Sample> = {};
  const bare: number[] = [];
  const bulkSeconds = Math.max(seconds, path.least ?? 0);
  for (let run = 0; run < runs; run++) {
    bare.push(await bareRtt(world, device.host));
    for (const variant of left) {
      const sample = samples[variant.name] ?? report.emptySample();
      samples[variant.name] = sample;
      const { ping } = variant;
      if (ping !== undefined) sample.idle.push(median(await pings(ping.from, ping.to, 30, 0.02)));
      const up = await costed(hosts, () => variant.up(bulkSeconds));
      sample.up.push(up.goodput);
      sample.cpuUp.push(up.cpuTotal);
      sample.processes.push(prefixed("up", up.cpu));
      if (path.down) {
        const down = await costed(hosts, () => variant.down(bulkSeconds));
        sample.down.push(down.goodput);
        sample.cpuDown.push(down.cpuTotal);
        sample.processes.push(prefixed("down", down.cpu));
      }
      if (path.small && variant.small !== undefined) sample.small.push(await variant.small(1));
      if (ping !== undefined) {
        const [count, interval] = path.pings;
        const bulk = variant.up(count * interval + 2);
        await Bun.sleep(2000); // past the flow's own beginning
        const times = await pings(ping.from, ping.to, count, interval);
        sample.p50.push(quantile(times, 0.5));
        sample.p99.push(quantile(times, 0.99));
        await bulk;
      }
      const numbers = Object.entries(sample).filter(
        ([what, list]) => what !== "processes" && list.length > 0,
      );
      const words = numbers.map(([what, list]) => `${what} ${Number(list.at(-1)).toFixed(2)}`).join(" ");
      say(`${path.name} ${run + 1}/${runs} ${variant.name}: ${words}`);
    }
  }
  const deviceMemory = memoryOf(device.process?.pid ?? 0, "VmHWM");
  return { words: path.words, samples, bare, deviceMemory };
}

/**
 * TCP as Debian's kernels have it, and so devices and proxies, whatever this machine was told: cubic for connections from then on. Where
 * that cannot be had, reno, which is nearest, and the bench says so.
 */
async function usePlainTcp(hosts: readonly Host[]): Promise<void> {
  const file = "/proc/sys/net/ipv4/tcp_congestion_control";
  for (const host of hosts) {
    const set = `for name in cubic reno; do echo $name 2>/dev/null >${file} && break; done; cat ${file}`;
    const name = (await host.must(["sh", "-c", set])).trim();
    if (name !== "cubic") say(`${host.name}: TCP uses ${name}, as cubic cannot be had here`);
  }
}

function prefixed(way: string, costs: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(costs).map(([name, cost]) => [`${way} ${name}`, cost]));
}

const aims = report.aims(results);
if (values.json) {
  process.stdout.write(`${JSON.stringify({ ...results, aims }, null, 2)}\n`);
} else {
  for (const path of Object.values(results.paths)) process.stdout.write(report.pathTable(path, runs));
  const { idle } = results;
  if (idle !== undefined) {
    process.stdout.write(
      `\n${idle.tunnels} idle tunnels: the server's memory ${report.mb(idle.before)} MB without, ` +
        `${report.mb(idle.during)} MB with them, ${(idle.each / 1000).toFixed(0)} kB each; ` +
        `${(idle.load * 100).toFixed(0)} % of a processor\n`,
    );
  }
  process.stdout.write(report.aimTable(aims));
}
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(0);
