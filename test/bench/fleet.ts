/**
 * `bun run bench:fleet`: how soon many devices are up after their start, after the server's restart and after
 * their proxy's sshd was away for 10 s; how many connections sshd drops; what an idle device costs the daemon;
 * how long the daemon takes to stop. Options: --only FLEETS (comma separated, of those below), --json.
 */

import { cpus, loadavg, setPriority } from "node:os";
import { parseArgs } from "node:util";
import { table } from "../../src/text.ts";
import { ensurePackages } from "../setup.ts";
import type { Back } from "./fleet/tally.ts";
import { orUsage } from "./options.ts";

/** Light devices straight at the server; light ones through one proxy's sshd; real supervisors through it. */
const FLEETS = ["light-100", "light-500", "light-1000", "proxied-40", "proxied-100", "real-40"];

const { values } = orUsage(() =>
  parseArgs({
    options: {
      json: { type: "boolean", default: false },
      only: { type: "string", default: FLEETS.join(",") },
    },
  }),
);
const say = (line: string): boolean => process.stderr.write(`${line}\n`);
const chosen: { kind: string; devices: number }[] = [];
for (const name of values.only.split(",")) {
  const [, kind, devices] = /^(light|proxied|real)-(\d{1,4})$/.exec(name) ?? [];
  if (kind === undefined) {
    say(`--only ${name}: not light-N, proxied-N or real-N, as in ${FLEETS.join(", ")}`);
    process.exit(2);
  }
  chosen.push({ kind, devices: Number(devices) });
}
await ensurePackages(say);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(say);
// Other programs of the machine shall not count.
setPriority(-10);
const { Fleet } = await import("./fleet/fleet.ts");

const figures = [];
for (const { kind, devices } of chosen) {
  await using fleet = await Fleet.create({
    ...{ devices, kind: kind === "real" ? "real" : "light", proxy: kind !== "light", say },
  });
  figures.push({ ...(await fleet.measure()), machineLoad: loadavg()[0] ?? 0 });
}

const machine = `${cpus().length} processors, ${cpus()[0]?.model ?? "unknown"}`;
if (values.json) {
  process.stdout.write(`${JSON.stringify({ machine, figures })}\n`);
} else {
  const seconds = (back: Back | null): string =>
    back === null ? "" : [back.half, back.most, back.all].map((s) => s.toFixed(1)).join(" / ");
  const rows = figures.map((one) => [
    `${one.devices} ${one.kind}${one.proxy ? ", one proxy" : ""}`,
    ...[seconds(one.start), seconds(one.server), seconds(one.sshd)],
    one.dropped === null ? "" : `${one.dropped.start} / ${one.dropped.server} / ${one.dropped.sshd}`,
    ...[(one.memory / 1000).toFixed(0), (100 * one.load).toFixed(3), one.stop.toFixed(1)],
    one.machineLoad.toFixed(1),
  ]);
  const header = [
    "FLEET",
    "START s",
    "SERVER s",
    "SSHD s",
    "DROPPED",
    "kB EACH",
    "CPU % EACH",
    "STOP s",
    "LOAD",
  ];
  process.stdout.write(`${table(header, rows)}\n`);
  process.stdout.write(`half / 95 % / all; ${machine}\n`);
}
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(0);
