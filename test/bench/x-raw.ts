import { World } from "../lab/world.ts";
import { ensurePackages } from "../setup.ts";
import { allowCubic, useCubic } from "./tunnel/congestion.ts";
import { tcp } from "./tunnel/measure.ts";
import { FAR, Wire } from "./tunnel/wire.ts";

const say = (l: string) => process.stderr.write(l + "\n");
await ensurePackages(say);
allowCubic(say);
await using world = await World.create({ proxies: 1 });
const wire = await Wire.lay(world);
await wire.shape(process.argv[2] ?? "long", 1);
const h = await world.lab.host("dev", { networks: [FAR] });
await wire.admit(h, 5);
const p = world.proxies[0]!.host;
await useCubic([h, p], say);
for (let i = 0; i < 3; i++) {
  wire.restart();
  const to = p.ports[0]?.ipv4 ?? p.address();
  const m = await tcp(h, p, p.address(), 8);
  say(
    `${m.mbits.toFixed(0)} Mbit/s; ${m.series
      .filter((_, i) => i % 5 === 4)
      .map((x) => x.toFixed(0))
      .join(" ")}`,
  );
}
process.exit(0);
