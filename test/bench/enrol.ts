/**
 * `bun run bench:enrol`: how long until the first ping goes through the tunnel, from an accepted request and from the start
 * of a device that has credentials, beside a plain nested `ssh … true` over the same proxy, one after the other in one run.
 */

import { parseArgs } from "node:util";
import { ensurePackages } from "../setup.ts";
import { count, orUsage } from "./options.ts";

const { values } = orUsage(() =>
  parseArgs({
    options: { json: { type: "boolean", default: false }, runs: { type: "string", default: "7" } },
  }),
);
await ensurePackages((line) => process.stderr.write(`${line}\n`));
const { installPackages } = await import("../lab/packages.ts");
await installPackages((line) => process.stderr.write(`${line}\n`));
const { World, WALT_NET } = await import("../lab/world.ts");
const { startSshd } = await import("../lab/sshd.ts");
const { READING_TIME } = await import("../../src/commands/vpn/_monitor-screen.ts");
const { median, report } = await import("./stats.ts");

const runs = count("runs", values.runs, 1000);
const SSH = "plain nested ssh … true";
const START = "device run with credentials → first ping";
const ACCEPT = "accepted request → first ping";
const samples: Record<string, number[]> = { [SSH]: [], [START]: [], [ACCEPT]: [] };

await using world = await World.create();
const [proxy] = world.proxies;
if (proxy === undefined) throw new Error("no proxy");
const device = await world.device("device1");
const { host } = device;

// The plain way: an account with a key on proxy and server, default algorithms, `ssh -J`.
await startSshd(world.server);
await host.must([
  "sh",
  "-c",
  "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519",
]);
const key = await host.must(["sh", "-c", "cat ~/.ssh/id_ed25519.pub"]);
for (const one of [proxy.host, world.server]) one.writeFile("/root/.ssh/authorized_keys", key, 0o600);
const plain = [
  ...["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"],
  ...["-J", `root@${proxy.name}`, "root@walt.lab.example", "true"],
];
proxy.host.hosts({ "walt.lab.example": world.serverAddress });
await host.must([
  "sh",
  "-c",
  `ssh-keyscan ${proxy.name} > ~/.ssh/known_hosts 2>/dev/null; ${plain.join(" ")}`,
]);

/** Revoke the device, and let it forget. */
async function startOver(): Promise<void> {
  const [{ name = "" } = {}] = await world.nodes();
  await world.must(world.server, "vpn", "revoke", name, "--yes");
  await world.must(host, "device", "forget");
}

// The node: on the device's bridge as soon as there is one, with the MAC address that the server gives this board.
await device.enrol();
const mac = (await world.nodes())[0]?.mac ?? "";
await device.stop();
await startOver();
const node = await world.lab.host("node", { networks: [] });
await host.ip(`link add to-node type veth peer name eth0 netns ${node.pid}`, "link set to-node up");
await node.ip(`link set eth0 address ${mac} up`, "address add 192.168.192.77/22 dev eth0");

/** ms from `begin` (which starts or accepts the device) until the first answer to a ping. */
async function firstPing(begin: () => Promise<number>): Promise<number> {
  const plug = host.spawn([
    "sh",
    "-c",
    "until ip link set to-node master walt-br 2>/dev/null; do sleep 0.005; done",
  ]);
  const ping = node.spawn(["stdbuf", "-oL", "ping", "-n", "-i", "0.005", WALT_NET]);
  const start = await begin();
  await ping.waitFor(/bytes from/, { timeout: 60_000 });
  const ms = performance.now() - start;
  await Promise.all([ping.stop("SIGKILL"), plug.stop("SIGKILL")]);
  return ms;
}

for (let run = 0; run < runs; run++) {
  const start = performance.now();
  await host.must(plain);
  samples[SSH]?.push(performance.now() - start);

  const monitor = await world.monitor();
  const accepted = await firstPing(async () => {
    device.start();
    const { code } = await monitor.question();
    // The time that the monitor wants a person to look for is none of ours.
    await Bun.sleep(READING_TIME + 50);
    const now = performance.now();
    monitor.process.write(`${code}\n`);
    return now;
  });
  samples[ACCEPT]?.push(accepted);
  await monitor.stop();
  await device.stop();

  const started = await firstPing(async () => {
    const now = performance.now();
    device.start();
    return now;
  });
  samples[START]?.push(started);
  await device.stop();

  await startOver();
  process.stderr.write(`run ${run + 1} of ${runs}\n`);
}

if (values.json) {
  const rows = Object.entries(samples).map(([what, ms]) => ({
    what,
    median: median(ms),
    ratio: median(ms) / median(samples[SSH] ?? []),
    ms,
  }));
  process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
} else {
  process.stdout.write(`${report("ms", samples)}\n`);
}
