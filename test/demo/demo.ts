/** The demo itself: three hosts, the real programs, a report. */

import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import type { NodeInfo } from "../../src/api/messages.ts";
import { messageOf, WaltError } from "../../src/errors.ts";
import { run } from "../../src/linux/run.ts";
import { table } from "../../src/text.ts";
import { waltBinary } from "../lab/binary.ts";
import { eventually } from "../lab/eventually.ts";
import { BLOB_BYTES, BLOB_LINE, blob, buildNodeOs } from "../lab/node-os.ts";
import { installPackages } from "../lab/packages.ts";
import { type Monitor, World, type WorldDevice } from "../lab/world.ts";
import { Steps } from "./steps.ts";

export interface DemoOptions {
  interactive: boolean;
  json: boolean;
  keep: boolean;
  /** The node boots the image of `walt image build --node`. */
  nodeImage: boolean;
}

/** Run it; the exit status. */
export async function demo(options: DemoOptions): Promise<number> {
  const out = options.json ? process.stderr : process.stdout;
  const stopped = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => stopped.abort(signal));
  const interrupted = new Promise<never>((_resolve, reject) =>
    stopped.signal.addEventListener("abort", () =>
      reject(new WaltError(`stopped by ${stopped.signal.reason}`)),
    ),
  );
  interrupted.catch(() => {});
  const start = performance.now();
  const steps = new Steps(out);
  let world: World | undefined;
  let report: Report | undefined;
  let failure: string | undefined;
  try {
    if (process.geteuid?.() !== 0) {
      throw new WaltError("the demo builds network namespaces, which only root may", {
        hint: "Run it as root, for example with sudo.",
      });
    }
    if (options.interactive && !process.stdin.isTTY) throw new WaltError("--interactive needs a terminal");
    await Promise.race([
      interrupted,
      (async () => {
        world = await prepare(steps);
        report = await firstBoot(world, steps, options);
      })(),
    ]);
    if (report === undefined || world === undefined) throw new Error("no report");
    if (!options.json) out.write(`\n${table(["WHAT", "CAME UP"], rows(report))}\n\n`);
    if (options.keep) {
      out.write(`Everything keeps running until ^C. Have a look around, for example:\n${hints(world)}\n`);
      await interrupted.catch(() => {});
    }
  } catch (error) {
    failure =
      error instanceof WaltError ? [error.message, error.hint].filter((t) => t).join("\n") : messageOf(error);
    process.stderr.write(`demo: ${failure}\n`);
    if (world !== undefined && !stopped.signal.aborted) process.stderr.write(`\n${world.logs()}\n`);
  } finally {
    await world?.lab.stop();
  }
  if (options.json) {
    const total = Math.round(performance.now() - start);
    process.stdout.write(
      `${JSON.stringify({ ok: failure === undefined, failure: failure ?? null, total, steps: steps.done, report: report ?? null }, null, 2)}\n`,
    );
  }
  return failure === undefined ? 0 : 1;
}

/** Packages, binary, hosts, server, proxy. */
async function prepare(steps: Steps): Promise<World> {
  await steps.run("Debian packages", async () => {
    let detail = "all there";
    await installPackages((line) => {
      detail = line;
    });
    return { detail, value: undefined };
  });
  await steps.run("binary", async () => ({ detail: await waltBinary(), value: undefined }));
  return await steps.run("hosts", async () => {
    const world = await World.create();
    const { serverAddress, proxies } = world;
    return {
      detail: `server ${serverAddress} with \`walt server run\`, proxy ${proxies[0]?.host.address()} with sshd and proxy-setup.sh`,
      value: world,
    };
  });
}

interface Report {
  node: string;
  mac: string;
  address: string;
  via: string;
  accelerator: string;
  pingMs: number;
  transferBytes: number;
  transferMs: number;
  nodeShow: string;
}

/** The node's own operating system, a device, its first boot, and the node at the end of it. */
async function firstBoot(
  world: World,
  steps: Steps,
  { interactive, nodeImage }: DemoOptions,
): Promise<Report> {
  await steps.run("the node's image", async () => {
    const work = `${world.lab.dir}/work`;
    const boot = world.server.path("/var/lib/walt-vpn/boot");
    for (const folder of [work, boot]) mkdirSync(folder, { recursive: true });
    if (nodeImage) return { detail: await buildNodeImage(world, boot), value: undefined };
    const { architectures } = await buildNodeOs(boot, work);
    return {
      detail: `Debian kernel and busybox for ${architectures[0]}, in the server's boot files`,
      value: undefined,
    };
  });
  const device = await steps.run("device", async () => ({
    detail: "its folder made by `walt vpn setup-node`",
    value: await world.device("device", { toml: "" }),
  }));
  const log = device.start();
  await steps.run("the device asks, and nobody watches", async () => {
    const [, why = ""] = await log.waitFor(
      /(denied: nobody runs `walt vpn monitor`[^\n]*?) event=failure wait=/,
    );
    return { detail: why, value: undefined };
  });
  const asked = performance.now();
  const node = interactive ? await askPerson(world, device) : await accept(steps, await world.monitor());
  if (interactive) steps.note("accepted", `node ${node}`, performance.now() - asked);
  await steps.run("VPN", async () => {
    await world.daemon.waitFor(new RegExp(`event=tunnel-up node=${node}`), { timeout: 60_000 });
    return { detail: "outer ssh, inner ssh, TAP and bridge", value: undefined };
  });
  return await seeNode(world, device, steps, node, nodeImage);
}

/** The image of `walt image build --node`, which the server's root may log in to; in words. */
async function buildNodeImage(world: World, boot: string): Promise<string> {
  const { server } = world;
  const [key, arch] = ["/root/.ssh/id_ed25519", process.arch === "arm64" ? "arm64" : "amd64"];
  await server.must(["sh", "-c", `mkdir -m 700 -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f ${key}`]);
  const words = ["--arch", arch, "--authorized-keys", server.path(`${key}.pub`), "-o", boot];
  await run([world.binary, "image", "build", "--node", ...words], { timeout: 1_200_000 });
  return `of \`walt image build --node\` for ${arch}, in the server's boot files`;
}

/** What the node's image does not do by itself, for the transfer: it serves a file by HTTP. */
const SERVE = `mkdir -p /tmp/www && cd /tmp/www && yes '${BLOB_LINE.trim()}' | head -c ${BLOB_BYTES} >blob &&
sha256sum blob >blob.sha256 && { setsid python3 -m http.server 80 >/dev/null 2>&1 </dev/null & }`;

async function accept(steps: Steps, monitor: Monitor): Promise<string> {
  return await steps.run("`walt vpn monitor`", async () => {
    const { code } = await monitor.answer("accept");
    const [, node = ""] = await monitor.process.waitFor(/becomes node (\S+)/);
    await monitor.stop();
    return { detail: `request with short code ${code} accepted, node ${node}`, value: node };
  });
}

/** The person at the keyboard answers, with the real monitor on this terminal. */
async function askPerson(world: World, device: WorldDevice): Promise<string> {
  const child = Bun.spawn([...world.server.enter(), world.binary, "vpn", "monitor"], {
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
    env: world.server.environment({ TERM: process.env["TERM"] ?? "dumb" }),
  });
  try {
    const [, node = ""] =
      (await device.process?.waitFor(/event=access-granted node=(\S+)/, { timeout: 3_600_000 })) ?? [];
    return node;
  } finally {
    child.kill("SIGINT");
    await child.exited;
  }
}

/** The virtual machine, seen from the server. */
async function seeNode(
  world: World,
  device: WorldDevice,
  steps: Steps,
  name: string,
  nodeImage: boolean,
): Promise<Report> {
  const log = device.process;
  if (log === undefined) throw new Error("the device does not run");
  const accelerator = await steps.run("virtual machine", async () => {
    const [, accel = ""] = await log.waitFor(/accel=(kvm|tcg)/, { timeout: 60_000 });
    return { detail: accel === "kvm" ? "KVM" : "emulated: no /dev/kvm that works here", value: accel };
  });
  await steps.run("network boot", async () => {
    await world.daemon.waitFor(/a node boots .*arch=(\S+)/, { timeout: 300_000 });
    return { detail: "iPXE has its address and its boot script, through the tunnel", value: undefined };
  });
  const shown = await steps.run("node", async () => {
    let serves = !nodeImage;
    const answering = async (): Promise<NodeInfo | undefined> => {
      if (!serves) {
        const command = [world.binary, "node", "run", name, "--", SERVE];
        serves = (await world.server.run(command, { timeout: 120_000 })).status === 0;
      }
      const found = (await world.nodes()).find((n) => n.name === name);
      if (found?.address == null) return undefined;
      const web = await world.server.run(["sh", "-c", fetchLine(found.address, "blob.sha256", 5000)]);
      return web.status === 0 ? found : undefined;
    };
    const found = await eventually("the node answers", answering, { within: 600_000, every: 500 });
    return { detail: `${name} answers at ${found.address}`, value: found };
  });
  const address = shown.address ?? "";
  const pingMs = await steps.run("ping", async () => {
    const text = await world.server.must(["ping", "-c", "5", "-i", "0.2", address]);
    const ms = Number(/= [\d.]+\/([\d.]+)\//.exec(text)?.[1]);
    return { detail: `${ms} ms`, value: ms };
  });
  const transferMs = await steps.run("transfer", async () => {
    const start = performance.now();
    const sum = (
      await world.server.must(["sh", "-c", fetchLine(address, "blob", 60_000)], { timeout: 120_000 })
    ).trim();
    const ms = performance.now() - start;
    const expected = createHash("sha256").update(blob()).digest("hex");
    if (!sum.includes(expected)) throw new WaltError(`the transfer arrived damaged: ${sum}`);
    return {
      detail: `${BLOB_BYTES >> 20} MB, same SHA-256, ${(BLOB_BYTES / 1e3 / ms).toFixed(1)} MB/s`,
      value: ms,
    };
  });
  return {
    node: name,
    mac: shown.mac,
    address,
    via: shown.via ?? "",
    accelerator,
    pingMs,
    transferBytes: BLOB_BYTES,
    transferMs: Math.round(transferMs),
    nodeShow: await world.must(world.server, "node", "show"),
  };
}

/**
 * A shell line that fetches a file of the node within `timeout` ms and prints its SHA-256. What asks whether the node is up must be
 * quick to ask anew: of a machine that boots no answer comes, and the kernel's next attempt is half a minute away then.
 */
function fetchLine(address: string, file: string, timeout: number): string {
  return `set -e; ${process.execPath} -e 'const r = await fetch("http://${address}/${file}", {signal: AbortSignal.timeout(${timeout})}); if (!r.ok) process.exit(1); console.log(new Bun.CryptoHasher("sha256").update(await r.arrayBuffer()).digest("hex"))' 2>/dev/null`;
}

function rows(r: Report): string[][] {
  return [
    ["node", r.node],
    ["MAC address", r.mac],
    ["address on walt-net", r.address],
    ["entrypoint", r.via],
    ["virtual machine", r.accelerator === "kvm" ? "KVM" : "emulated"],
    ["ping from the server", `${r.pingMs} ms`],
    ["transfer from the node", `${r.transferBytes >> 20} MB in ${(r.transferMs / 1000).toFixed(1)} s`],
    ...r.nodeShow
      .trimEnd()
      .split("\n")
      .map((line, i) => [i === 0 ? "walt node show" : "", line]),
  ];
}

function hints(world: World): string {
  const enter = (pid: number): string => `nsenter --target ${pid} --all`;
  return [
    `  ${enter(world.server.pid)} ${world.binary} node show`,
    ...world.devices.map((d) => `  ${enter(d.host.pid)} ${world.binary} device status`),
  ].join("\n");
}
