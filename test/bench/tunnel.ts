/**
 * `bun run bench:tunnel`: the tunnel beside a nested ssh pipe with the same ciphers, OpenSSH's own Ethernet tunnel and a plain
 * read/write loop, over the same proxy, all in one run, one after the other, medians of at least 5.
 * Options: --runs N, --seconds N, --only PATHS (comma separated: unshaped, 20mbit, 2mbit, long, idle), --without VARIANTS, --json.
 */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    runs: { type: "string", default: "5" },
    seconds: { type: "string", default: "4" },
    only: { type: "string", default: "unshaped,20mbit,2mbit,long,idle" },
    without: { type: "string", default: "" },
  },
});
const say = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
const { INTERNET } = await import("../lab/lab.ts");
const { World } = await import("../lab/world.ts");
const { table } = await import("../../src/text.ts");
const { median } = await import("./stats.ts");
const { costed, pings, quantile } = await import("./tunnel/measure.ts");
const { idleMemory, memoryOf } = await import("./tunnel/memory.ts");
const { startPlainServer, variants } = await import("./tunnel/variants.ts");
const { FAR, Wire } = await import("./tunnel/wire.ts");

/** Mbit/s, ms each way, bytes of queue, per cent of loss; and what to measure. */
interface Path {
  name: string;
  words: string;
  wire?: [rate: number, delay: number, queue: number, loss: number];
  /** Pings, and s between them; `seconds` of bulk last as long. */
  pings: [count: number, interval: number];
  down: boolean;
}

const PATHS: Path[] = [
  { name: "unshaped", words: "unshaped", pings: [100, 0.02], down: true },
  { name: "20mbit", words: "20 Mbit/s, 40 ms", wire: [20, 20, 250_000, 0], pings: [150, 0.02], down: true },
  {
    name: "2mbit",
    words: "2 Mbit/s, 200 ms, 1 % loss",
    wire: [2, 100, 64_000, 1],
    pings: [120, 0.05],
    down: false,
  },
  {
    name: "long",
    words: "unshaped rate, 100 ms",
    wire: [0, 50, 16_000_000, 0],
    pings: [50, 0.1],
    down: true,
  },
];

/** Tunnels of the part `idle`. */
const IDLE = 500;

interface Sample {
  up: number[];
  down: number[];
  cpu: number[];
  idle: number[];
  p50: number[];
  p99: number[];
  processes: Record<string, number>[];
}

const empty = (): Sample => ({ up: [], down: [], cpu: [], idle: [], p50: [], p99: [], processes: [] });

const runs = Number(values.runs);
const only = values.only.split(",");
const without = values.without.split(",");
await using world = await World.create();
await startPlainServer(world);
const wire = await Wire.lay(world);
const results: Record<string, Record<string, Sample>> = {};
/** The most that the device's process ever held, bytes, by path. */
const deviceMemory: Record<string, number> = {};

for (const [index, path] of PATHS.entries()) {
  if (!only.includes(path.name)) continue;
  const shaped = path.wire !== undefined;
  if (path.wire !== undefined) await wire.shape(...path.wire);
  const device = await world.device(`device${index}`, { network: shaped ? FAR : INTERNET });
  if (shaped) await wire.admit(device.host, index);
  const { all, node } = await variants(world, device, index);
  const chosen = all.filter((one) => !without.includes(one.name));
  const hosts = [device.host, world.server, ...world.proxies.map((p) => p.host)];
  const samples: Record<string, Sample> = {};
  for (let run = 0; run < runs; run++) {
    for (const variant of chosen) {
      const sample = samples[variant.name] ?? empty();
      samples[variant.name] = sample;
      const seconds = Number(values.seconds);
      const { ping } = variant;
      if (ping !== undefined) sample.idle.push(median(await pings(ping.from, ping.to, 30, 0.02)));
      const up = await costed(hosts, () => variant.up(seconds));
      sample.up.push(up.goodput);
      sample.cpu.push(up.cpuTotal);
      sample.processes.push(up.cpu);
      if (path.down) sample.down.push((await variant.down(seconds)).mbits);
      if (ping !== undefined) {
        const [count, interval] = path.pings;
        const bulk = variant.up(count * interval + 2);
        await Bun.sleep(2000); // past the flow's own beginning
        const times = await pings(ping.from, ping.to, count, interval);
        sample.p50.push(quantile(times, 0.5));
        sample.p99.push(quantile(times, 0.99));
        await bulk;
      }
      say(
        `${path.name} ${run + 1}/${runs} ${variant.name}: ${Object.entries(sample)
          .filter(([what, list]) => what !== "processes" && list.length > 0)
          .map(([what, list]) => `${what} ${Number(list.at(-1)).toFixed(2)}`)
          .join(" ")}`,
      );
    }
  }
  results[path.name] = samples;
  const { pid } = device.process ?? {};
  if (pid !== undefined) deviceMemory[path.name] = memoryOf(pid, "VmHWM");
  await device.stop();
  await node.stop();
  await device.host.stop();
  await wire.cut();
}

if (only.includes("idle")) say(`${IDLE} idle tunnels`);
const idle = only.includes("idle") ? await idleMemory(IDLE) : undefined;
const mb = (bytes: number): string => (bytes / 1e6).toFixed(1);

/** Median over the runs of what each process cost. */
function processes(sample: Sample): Record<string, number> {
  const names = new Set(sample.processes.flatMap((one) => Object.keys(one)));
  return Object.fromEntries(
    [...names].map((name) => [name, median(sample.processes.map((one) => one[name] ?? 0))]),
  );
}

if (values.json) {
  const rows = Object.entries(results).map(([path, samples]) => [
    path,
    Object.fromEntries(
      Object.entries(samples).map(([name, sample]) => [name, { ...sample, processes: processes(sample) }]),
    ),
  ]);
  process.stdout.write(`${JSON.stringify({ ...Object.fromEntries(rows), deviceMemory, idle }, null, 2)}\n`);
} else {
  const show = (list: number[], digits: number): string =>
    list.length === 0 ? "-" : median(list).toFixed(digits);
  for (const path of PATHS) {
    const samples = results[path.name];
    if (samples === undefined) continue;
    const base = median(samples["nested ssh pipe"]?.up ?? []);
    const rows = Object.entries(samples).map(([name, s]) => [
      name,
      show(s.up, 1),
      show(s.down, 1),
      (median(s.up) / base).toFixed(2),
      show(s.cpu, 2),
      show(s.idle, 2),
      show(s.p50, 1),
      show(s.p99, 1),
    ]);
    const header = ["", "UP Mbit/s", "DOWN Mbit/s", "UP/PIPE", "CPU s/GB", "IDLE ms", "BULK p50", "BULK p99"];
    process.stdout.write(`\n${path.words}; medians of ${runs}\n${table(header, rows)}\n`);
    for (const [name, sample] of Object.entries(samples)) {
      const parts = Object.entries(processes(sample)).map(([what, cost]) => `${what} ${cost.toFixed(2)}`);
      process.stdout.write(`  ${name}, CPU s/GB: ${parts.join(", ")}\n`);
    }
    process.stdout.write(`  walt on the device, most memory: ${mb(deviceMemory[path.name] ?? 0)} MB\n`);
  }
  if (idle !== undefined) {
    process.stdout.write(
      `\n${idle.tunnels} idle tunnels: the server's memory ${mb(idle.before)} MB without, ${mb(idle.during)} MB with them, ` +
        `${(idle.each / 1000).toFixed(0)} kB each; ${(idle.load * 100).toFixed(0)} % of a processor\n`,
    );
  }
}
process.exit(0);
