import { INTERNET } from "../lab/lab.ts";
import { World } from "../lab/world.ts";
import { useCubic, allowCubic } from "./tunnel/congestion.ts";
import { pings, quantile } from "./tunnel/measure.ts";
import { recovery } from "./tunnel/report.ts";
import { median } from "./stats.ts";
import { Foreign } from "./tunnel/foreign.ts";
import { pathModels } from "../tunnel/send/paths/models.ts";
import { startPlainServer, variants } from "./tunnel/variants.ts";
import { FAR, Wire } from "./tunnel/wire.ts";
import { setPriority } from "node:os"; setPriority(-15);
const say = (l: string) => process.stderr.write(l + "\n");
allowCubic(say);
const [name = "20mbit", secs = "3", n = "4", which = "walt", ways = "up,down"] = process.argv.slice(2);
await using world = await World.create({ proxies: name === "direct" ? 0 : 1 });
await startPlainServer(world);
const wire = name === "direct" || name === "unshaped" ? undefined : await Wire.lay(world);
await wire?.shape(name, 1);
const device = await world.device("device", { network: wire ? FAR : INTERNET });
await wire?.admit(device.host, 3);
const fw = pathModels(1).find((m) => m.name === name)?.foreign;
const foreign = fw && wire ? await Foreign.move(world, wire, fw, 4) : undefined;
await useCubic([device.host, world.server, ...world.proxies.map((p) => p.host), ...Object.values(foreign?.hosts ?? {})], say);
const { all, node } = await variants(world, device, 3);
await useCubic([node], say);
for (const v of all.filter((v) => which.split(",").includes(v.name === "nested ssh pipe" ? "pipe" : v.name === "plain loop" ? "loop" : v.name))) {
  const up: number[] = [], down: number[] = [], i99: number[] = [], p99: number[] = [], p50: number[] = [], ratio: number[] = [], rec: (number | undefined)[] = [];
  const body = async () => { for (let i = 0; i < Number(n); i++) {
    wire?.restart();
    const idle = v.ping ? await pings(v.ping.from, v.ping.to, 60, 0.02) : [0];
    i99.push(quantile(idle, .99));
    wire?.restart();
    const flow = v.up(Number(secs));
    await Bun.sleep(1000);
    const times = v.ping ? await pings(v.ping.from, v.ping.to, Math.round((Number(secs) - 1) / 0.02), 0.02) : [0];
    const r = await flow; up.push(r.mbits); rec.push(recovery(r.series));
    p99.push(quantile(times, .99)); p50.push(quantile(times, .5)); ratio.push(quantile(times, .99) / quantile(idle, .99));
    if (ways.includes("down")) { wire?.restart(); down.push((await v.down(Number(secs))).mbits); }
  } };
  if (foreign) await foreign.during(body); else await body();
  const f = (a: number[], d = 1) => `${median(a).toFixed(d)} [${a.map((x) => x.toFixed(d)).join(" ")}]`;
  console.log(process.cwd().split("/").at(-1), name, v.name, "up", f(up), down.length ? `down ${f(down)}` : "", "idle99", f(i99, 0), "p50", median(p50).toFixed(0), "p99", f(p99, 0), "ratio", f(ratio, 2), rec.some((x) => x !== undefined) ? `recovery ${rec}` : "");
}
process.exit(0);
