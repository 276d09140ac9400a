/**
 * `bun run bench:attack`: what an honest device gets of the server while somebody attacks it, beside the same
 * without an attack right before. Attackers run on this machine, too, and would have machines of their own. So
 * they have the lowest priority (nice 19), and all else a high one (nice -10). Options: --runs N (3), --seconds N
 * of bulk, --only ATTACKS (comma separated, by their modes), --json.
 */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";
import { count, orUsage } from "./options.ts";

const { values } = orUsage(() =>
  parseArgs({
    options: {
      json: { type: "boolean", default: false },
      runs: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      only: { type: "string", default: "" },
    },
  }),
);
const print = (line: string): boolean => process.stderr.write(`${line}\n`);
await ensurePackages(print);
const { installPackages } = await import("../lab/packages.ts");
await installPackages(print);
const { setPriority } = await import("node:os");
const { SERVER } = await import("../../src/api/routes.ts");
const { table } = await import("../../src/text.ts");
const { eventually } = await import("../lab/eventually.ts");
const { pingable, WALT_NET, World } = await import("../lab/world.ts");
const { median } = await import("./stats.ts");
const { pings, quantile, tcp } = await import("./tunnel/measure.ts");
const { memoryOf, processorTime } = await import("./tunnel/memory.ts");

const DEVICE = "/var/lib/walt-vpn/device_key";
const ENROLMENT = "/etc/walt/enrolment_key";
const ENDPOINT = ["walt.lab.example", "2222"];
const program = (name: string): string[] => [
  process.execPath,
  new URL(`./attack/${name}.ts`, import.meta.url).pathname,
];

interface Attack {
  words: string;
  mode: string;
  key: string;
}
const ATTACKS: readonly Attack[] = [
  { words: "half-open connections", mode: "half-open", key: ENROLMENT },
  { words: "requests for access", mode: "enrol", key: ENROLMENT },
  { words: "data that nobody reads", mode: "unread", key: ENROLMENT },
  { words: "lines in the log", mode: "log", key: ENROLMENT },
  { words: "the smallest frames", mode: "small", key: DEVICE },
  { words: "a device that takes nothing", mode: "deaf", key: DEVICE },
  { words: "frames to everybody", mode: "group", key: DEVICE },
];

/** What an honest device gets. */
interface Sample {
  /** Round trips, ms. */
  p50: number;
  p99: number;
  /** Mbit/s up. */
  goodput: number;
  /** ms, median; and the share that got a session. */
  login: number;
  loggedIn: number;
  /** ms of the server's API, median. */
  api: number;
  /** Resident memory of the server, MB. */
  memory: number;
}

const [runs, seconds] = [count("runs", values.runs, 1000), count("seconds", values.seconds, 3600)];
const only = values.only.split(",");
/** Logins and requests of the API of one sample. */
const LOGINS = 20;
/** ms that an attack goes on before anything is measured. */
const BEFORE = 1500;

setPriority(-10); // what is started from here on has it, too
await using world = await World.create({ proxies: 0 });
const [honest, evil] = [await world.device("honest"), await world.device("evil")];
const enrolled = async (device: typeof honest): Promise<{ mac: string }> => {
  const name = await device.enrol();
  return { mac: (await world.nodes()).find((one) => one.name === name)?.mac ?? "" };
};
const [own, theirs] = [await enrolled(honest), await enrolled(evil)];
await evil.stop();
const node = await honest.plugNode("192.168.192.100", own.mac);
if (!(await pingable(node, WALT_NET, 30))) throw new Error("the tunnel does not answer");
// The attacker's node is at an address that the server knows, though nobody answers there.
const EVIL = "192.168.195.250";
await world.server.ip(`neigh replace ${EVIL} lladdr ${theirs.mac} dev walt-net nud permanent`);
const monitor = await world.monitor("--json");

async function sample(): Promise<Sample> {
  const times = await pings(node, WALT_NET, 100, 0.02);
  const { mbits } = await tcp(node, world.server, WALT_NET, seconds);
  const said = await honest.host.must([...program("login"), ...ENDPOINT, DEVICE, String(LOGINS)], {
    timeout: 600_000,
  });
  const logins = said.trim().split("\n");
  const good = logins.filter((one) => one !== "failed").map(Number);
  const api: number[] = [];
  for (let i = 0; i < LOGINS; i++) {
    const start = performance.now();
    await world.api.call(SERVER.nodes, {});
    api.push(performance.now() - start);
  }
  return {
    ...{ p50: quantile(times, 0.5), p99: quantile(times, 0.99), goodput: mbits },
    ...{ login: median(good), loggedIn: good.length / logins.length, api: median(api) },
    memory: memoryOf(world.daemon.pid ?? 0, "VmRSS") / 1e6,
  };
}

/** Wait until nothing of an attack is left: the server has no tunnel of the attacker, and little to do. */
async function calm(): Promise<void> {
  const pid = world.daemon.pid ?? 0;
  const isGone = async (): Promise<boolean> =>
    (await world.nodes()).every((one) => one.mac !== theirs.mac || one.state !== "up");
  await eventually("the attacker's tunnel is gone", isGone, { within: 60_000, every: 200 });
  const busy = async (): Promise<number> => {
    const before = processorTime(pid);
    await Bun.sleep(1000);
    return processorTime(pid) - before;
  };
  await eventually("the server has little to do", busy, { fits: (share) => share < 0.15, within: 60_000 });
}

const results: { attack: Attack; without: Sample[]; during: Sample[] }[] = ATTACKS.filter(
  ({ mode }) => values.only === "" || only.includes(mode),
).map((attack) => ({ attack, without: [], during: [] }));

for (let run = 1; run <= runs; run++) {
  for (const { attack, without, during } of results) {
    await calm();
    without.push(await sample());
    const start = world.daemon.output.length;
    const nice = ["nice", "-n", "40"]; // the lowest there is
    const attackers = [
      evil.host.spawn([...nice, ...program("attacker"), attack.mode, ...ENDPOINT, attack.key, theirs.mac]),
    ];
    if (attack.mode === "deaf")
      attackers.push(world.server.spawn([...nice, ...program("attacker"), "download", EVIL]));
    for (const one of attackers) await one.waitFor(/attacking/);
    await Bun.sleep(BEFORE); // it shall be in full swing
    during.push(await sample());
    for (const one of attackers) await one.stop("SIGKILL", { tree: true });
    const [before, now] = [without.at(-1), during.at(-1)];
    print(`${run}/${runs} ${attack.words}: ${JSON.stringify(before)} → ${JSON.stringify(now)}`);
    print(`  ${world.daemon.output.slice(start).split("\n").length} lines in the log`);
  }
}
await monitor.stop("SIGKILL");

/** Medians and the worst run of what an aim is about. */
const rows = results.map(({ attack, without, during }) => {
  const of = (list: readonly Sample[], key: keyof Sample): number => median(list.map((one) => one[key]));
  const both = (key: keyof Sample, digits: number): string =>
    `${of(without, key).toFixed(digits)} → ${of(during, key).toFixed(digits)}`;
  const ratios = during.map((one, i) => one.goodput / (without[i]?.goodput ?? Number.NaN));
  const added = during.map((one, i) => one.p99 - (without[i]?.p99 ?? Number.NaN));
  const loggedIn = during.map((one) => 100 * one.loggedIn);
  const memory = during.map((one) => one.memory);
  const worst = (values: readonly number[], of: number, digits: number): string =>
    `${median(values).toFixed(digits)} (${of.toFixed(digits)})`;
  return {
    cells: [
      ...[attack.words, both("p50", 2), both("p99", 1), worst(added, Math.max(...added), 1)],
      ...[both("goodput", 0), worst(ratios, Math.min(...ratios), 2), both("login", 0)],
      ...[worst(loggedIn, Math.min(...loggedIn), 0), both("api", 1), worst(memory, Math.max(...memory), 0)],
    ],
    attack: attack.words,
    aims: [
      { what: "goodput", aim: "≥ 0.5 of that without", value: median(ratios), met: median(ratios) >= 0.5 },
      { what: "ping p99, ms", aim: "≤ 10 more", value: median(added), met: median(added) <= 10 },
      { what: "logins, %", aim: "≥ 99", value: median(loggedIn), met: median(loggedIn) >= 99 },
      {
        what: "server's memory, MB",
        aim: "≤ 300",
        value: Math.max(...memory),
        met: Math.max(...memory) <= 300,
      },
    ],
  };
});
if (values.json) {
  process.stdout.write(`${JSON.stringify({ runs, results, aims: rows }, null, 2)}\n`);
} else {
  const header = [
    ...["ATTACK", "P50 ms", "P99 ms", "P99 MORE", "Mbit/s", "RATIO", "LOGIN ms", "LOGINS %", "API ms", "MB"],
  ];
  const text = table(
    header,
    rows.map(({ cells }) => cells),
  );
  process.stdout.write(`\nwithout → during, medians of ${runs} runs; in brackets the worst run\n${text}\n\n`);
  const missed = rows.flatMap(({ attack, aims }) =>
    aims
      .filter(({ met }) => !met)
      .map(({ what, aim, value }) => `${attack}: ${what} ${value.toFixed(2)}, aim ${aim}`),
  );
  process.stdout.write(missed.length === 0 ? "all aims are met\n" : `missed:\n${missed.join("\n")}\n`);
}
await world.lab.stop();
await new Promise<void>((resolve) => process.stdout.end(() => resolve()));
process.exit(0);
