/** The card's way from `walt image build` to a running VM in an emulated board, step by step. */

import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, WaltError } from "../../src/errors.ts";
import { cacheFolder } from "../../src/image/cache.ts";
import { checkImage } from "../../src/image/check.ts";
import { run } from "../../src/linux/run.ts";
import { Steps } from "../demo/steps.ts";
import { waltBinary } from "../lab/binary.ts";
import { World } from "../lab/world.ts";
import { Board } from "./board.ts";
import { makeCard } from "./card.ts";
import { buildArm64Node } from "./node.ts";
import { startRouter } from "./site.ts";

export interface E2eOptions {
  /** Only until the VM starts. */
  short: boolean;
  json: boolean;
  /** Folder of downloads and bases; the command's own unless told. */
  cache: string | undefined;
  /** Folder that console logs are written to; none unless told. */
  logs: string | undefined;
}

/** Minutes that a step of an emulated board may take on a busy machine, ms. */
const SLOW = 300_000;

/** What the steps of one run share. */
interface Run {
  readonly steps: Steps;
  readonly out: NodeJS.WriteStream;
  readonly outside: string;
  readonly options: E2eOptions;
  world?: World;
  boards: Board[];
}

/** Run it; the exit status. */
export async function e2e(options: E2eOptions): Promise<number> {
  const out = options.json ? process.stderr : process.stdout;
  const start = performance.now();
  const r: Run = {
    steps: new Steps(out),
    out,
    outside: mkdtempSync(join(tmpdir(), "walt-e2e-")),
    options,
    boards: [],
  };
  let failure: string | undefined;
  const stop = async (): Promise<void> => {
    await r.world?.lab.stop();
    rmSync(r.outside, { recursive: true, force: true });
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => void stop().finally(() => process.exit(1)));
  try {
    const base = await makeBase(r);
    const world = await makeWorld(r);
    if (!options.short) await nodeFiles(r, world);
    const image = await personalise(r, world, base);
    const board = await firstBoot(r, world, image);
    if (!options.short) {
      await nodeBoots(r, world);
      await laterBoots(r, world, board);
      await secondCard(r, world, image);
    }
  } catch (error) {
    failure =
      error instanceof WaltError ? [error.message, error.hint].filter((t) => t).join("\n") : messageOf(error);
    process.stderr.write(`e2e: ${failure}\n`);
    for (const board of r.boards) process.stderr.write(`--- ${board.host.name}\n${board.log()}\n`);
    if (r.world !== undefined) process.stderr.write(`${r.world.logs()}\n`);
  } finally {
    if (options.logs !== undefined) keepLogs(r, options.logs);
    await stop();
  }
  const total = Math.round(performance.now() - start);
  if (options.json) {
    const report = { ok: failure === undefined, failure: failure ?? null, total, steps: r.steps.done };
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  } else {
    out.write(`\n${failure === undefined ? "passed" : "FAILED"} in ${Math.round(total / 1000)} s\n`);
  }
  return failure === undefined ? 0 : 1;
}

function keepLogs(r: Run, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const board of r.boards) writeFileSync(join(folder, `${board.host.name}.console`), board.log());
  if (r.world !== undefined) writeFileSync(join(folder, "world.log"), r.world.logs());
}

/** The compiled binaries alone, in a folder outside the repository, make the base. */
async function makeBase(r: Run): Promise<string> {
  const walt = await r.steps.run("binaries", async () => {
    for (const target of ["x64", "arm64"] as const) {
      const to = join(r.outside, `walt-linux-${target}`);
      copyFileSync(await waltBinary(target), to);
      chmodSync(to, 0o755);
    }
    return { detail: "x64 and arm64, in a folder of their own", value: join(r.outside, "walt-linux-x64") };
  });
  const build = async (...args: string[]) => {
    const cache = r.options.cache === undefined ? [] : ["--cache", r.options.cache];
    const text = await run([walt, "image", "build", "--json", ...cache, ...args], {
      timeout: 1_200_000,
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"] },
    });
    return JSON.parse(text) as { image: string; size: number; sha256: string; cached: boolean };
  };
  const first = await r.steps.run("`walt image build`", async () => {
    const built = await build();
    const detail = `${Math.round(built.size / 1e6)} MB${built.cached ? ", the cached one" : ""}`;
    return { detail, value: built };
  });
  if (r.options.short) return first.image;
  return await r.steps.run("the same once more", async () => {
    const { image, sha256 } = await build("--force", "--jobs", "1");
    if (sha256 !== first.sha256) throw new WaltError("the same inputs gave another base");
    return { detail: `the same bytes, SHA-256 ${sha256.slice(0, 12)}…`, value: image };
  });
}

async function makeWorld(r: Run): Promise<World> {
  return await r.steps.run("hosts", async () => {
    const world = await World.create();
    r.world = world;
    const router = await world.lab.host("router");
    await startRouter(
      router,
      Object.fromEntries(world.proxies.map(({ name, host }) => [name, host.address()])),
    );
    return { detail: "server, proxy with sshd, router with DHCP and DNS", value: world };
  });
}

/** The system that the node boots, in the server's boot files. */
async function nodeFiles(r: Run, world: World): Promise<void> {
  await r.steps.run("the node's image", async () => {
    const boot = world.server.path("/var/lib/walt/boot");
    mkdirSync(boot, { recursive: true });
    const size = await buildArm64Node(boot, join(r.outside, "node"), cacheFolder(r.options.cache));
    return { detail: `Debian kernel and busybox for arm64, ${Math.round(size / 1e6)} MB`, value: undefined };
  });
}

async function personalise(r: Run, world: World, base: string): Promise<string> {
  const image = await r.steps.run("`walt vpn setup-node`", async () => {
    const { image: path, size } = await makeCard(world, base);
    return { detail: `rpi3bp-vpn.dd, ${Math.round(size / 1e6)} MB`, value: path };
  });
  await r.steps.run("checks on the image", async () => {
    const found = await checkImage(image);
    if (found.problems.length > 0)
      throw new WaltError(`the image is not right: ${found.problems.join("; ")}`);
    return { detail: `${found.files} files in the root, ${found.checks} checks`, value: undefined };
  });
  return image;
}

async function firstBoot(r: Run, world: World, image: string): Promise<Board> {
  const board = await Board.create(await world.lab.host("board1"), image, "52:54:00:aa:00:01");
  r.boards.push(board);
  const log = await board.powerOn();
  await r.steps.run("kernel and root", async () => {
    const [, s, free] = await log.waitFor(/walt-os: started (\d+) s after the kernel, (\d+ MB of \d+ MB)/, {
      timeout: SLOW,
    });
    return { detail: `${s} s after the kernel's start, ${free} free`, value: undefined };
  });
  await r.steps.run("DHCP", async () => {
    const [, address = ""] = await log.waitFor(/has the address (\S+) by DHCP/, { timeout: SLOW });
    return { detail: address, value: undefined };
  });
  await r.steps.run("the board asks, and nobody watches", async () => {
    const [, why = ""] = await log.waitFor(/(denied: nobody runs `walt vpn monitor`[^\n]*?) wait=/, {
      timeout: SLOW,
    });
    return { detail: why, value: undefined };
  });
  const node = await accept(r, world, board);
  await vpn(r, world, board, node);
  await r.steps.run("virtual machine", async () => {
    const [, accel = ""] = await log.waitFor(/virtual machine runs .*accel=(kvm|tcg)/, { timeout: SLOW });
    if (accel !== "kvm") throw new WaltError("the virtual machine is emulated, though the board has KVM");
    return { detail: accel, value: undefined };
  });
  return board;
}

/** The operator's answer; the code on the board's screen is the one that the monitor shows. */
async function accept(r: Run, world: World, board: Board): Promise<string> {
  return await r.steps.run("`walt vpn monitor`", async () => {
    const monitor = await world.monitor();
    const question = await monitor.process.waitFor(/A device asks[\s\S]*?Accept this device\? \(y\/n\) /, {
      timeout: SLOW,
    });
    const code = /short code +(\S+)/.exec(question[0])?.[1] ?? "";
    const mac = /MAC address +(\S+)/i.exec(question[0])?.[1] ?? "";
    if (mac !== board.mac) throw new WaltError(`the monitor shows the MAC address ${mac}, not ${board.mac}`);
    const [, shown] = await board.console.waitFor(/walt-os: screen: Code +(\S+)/, { timeout: SLOW });
    if (shown !== code) throw new WaltError(`the screen shows the code ${shown}, the monitor ${code}`);
    monitor.process.write("y\n");
    const [, node = ""] = await monitor.process.waitFor(/becomes node (\S+)/);
    await monitor.stop();
    return { detail: `code ${code} on both screens, accepted as ${node}`, value: node };
  });
}

async function vpn(r: Run, world: World, board: Board, node: string): Promise<void> {
  await r.steps.run("VPN", async () => {
    await world.daemon.waitFor(new RegExp(`tunnel up node=${node}`), { timeout: SLOW });
    await board.console.waitFor(new RegExp(`walt-os: screen: Node +${node}`), { timeout: SLOW });
    return { detail: node, value: undefined };
  });
}

/** The node's own system comes through the VPN, and answers from the other end of it. */
async function nodeBoots(r: Run, world: World): Promise<void> {
  await r.steps.run("network boot", async () => {
    await world.daemon.waitFor(/a node boots .*arch=(\S+)/, { timeout: SLOW });
    return { detail: "iPXE has its address and its boot script, through the VPN", value: undefined };
  });
  const node = await r.steps.run("node", async () => {
    const deadline = performance.now() + 3 * SLOW;
    for (;;) {
      const [found] = await world.nodes();
      if (found?.address != null && (await isReady(world, found.address)))
        return { detail: `${found.name} answers at ${found.address}`, value: found.address };
      if (performance.now() > deadline) throw new WaltError("the node did not come up");
      await Bun.sleep(1000);
    }
  });
  await r.steps.run("ping", async () => {
    const text = await world.server.must(["ping", "-c", "5", "-i", "0.3", node]);
    const ms = /= [\d.]+\/([\d.]+)\//.exec(text)?.[1] ?? "?";
    return { detail: `${ms} ms`, value: undefined };
  });
  r.out.write((await world.must(world.server, "node", "show")).replaceAll(/^/gm, "          "));
  r.out.write("\n");
}

/** The node's own HTTP server is up, which is the last thing that its system starts. */
async function isReady(world: World, address: string): Promise<boolean> {
  const script = `const r = await fetch("http://${address}/blob.sha256", { signal: AbortSignal.timeout(5000) }); process.exit(r.ok ? 0 : 1)`;
  return (await world.server.run([process.execPath, "-e", script])).status === 0;
}

/** Lines of the console at which the power is cut: from the kernel's first word to the running VM. */
const MOMENTS = [
  /\[ +\d+\.\d+\]/,
  /walt-os: this is an emulated board/,
  /walt-os: started/,
  /walt-os: \w+ has a link/,
  /has the address/,
  /device starts/,
  /ssh: connecting to the entrypoint/,
  /tunnel: connecting to the server/,
  /vm: starting the virtual machine/,
  /virtual machine runs/,
];

async function laterBoots(r: Run, world: World, board: Board): Promise<void> {
  const [known] = await world.list();
  if (known === undefined) throw new WaltError("the server has no device");
  await r.steps.run("second boot", async () => {
    await board.cutPower();
    await comesUp(world, board, known.node);
    return { detail: `${known.node} again, without asking`, value: undefined };
  });
  for (const [index, moment] of MOMENTS.entries()) {
    await r.steps.run(`power cut ${index + 1}`, async () => {
      await board.cutPower();
      await (await board.powerOn()).waitFor(moment, { timeout: SLOW });
      await board.cutPower();
      await comesUp(world, board, known.node);
      return { detail: `at ${moment.source}; the next boot came up`, value: undefined };
    });
  }
  await r.steps.run("a state partition beyond repair", async () => {
    await board.cutPower();
    board.damageState();
    const log = await board.powerOn();
    await log.waitFor(/walt-os: .* is made anew/, { timeout: SLOW });
    await log.waitFor(/denied: nobody runs/, { timeout: SLOW });
    return { detail: "is made anew, and the board asks for access again", value: undefined };
  });
  await board.cutPower();
}

/** Switched on, the board has its VPN as this node, and did not ask for it. */
async function comesUp(world: World, board: Board, node: string): Promise<void> {
  const after = world.daemon.position;
  const log = await board.powerOn();
  await world.daemon.waitFor(new RegExp(`tunnel up node=${node}`), { timeout: SLOW, after });
  if (/this device asks as/.test(log.output)) throw new WaltError("the board asked for access again");
}

/** Another card with the same image, whose power is cut while it writes what it was granted. */
async function secondCard(r: Run, world: World, image: string): Promise<void> {
  const board = await Board.create(await world.lab.host("board2"), image, "52:54:00:aa:00:02");
  r.boards.push(board);
  const first = await world.list();
  const log = await board.powerOn();
  await r.steps.run("a second card", async () => {
    await log.waitFor(/denied: nobody runs/, { timeout: SLOW });
    const monitor = await world.monitor();
    await monitor.process.waitFor(/Accept this device\? \(y\/n\) /, { timeout: SLOW });
    const after = world.daemon.position;
    monitor.process.write("y\n");
    const [, node = ""] = await world.daemon.waitFor(/device accepted node=(\S+)/, { after });
    await board.cutPower();
    await monitor.stop();
    if (first.some((device) => device.node === node))
      throw new WaltError(`it became ${node}, which there is already`);
    const again = world.daemon.position;
    await board.powerOn();
    // What was not written is asked for again, and a key that the server knows is granted without a person.
    await world.daemon.waitFor(new RegExp(`tunnel up node=${node}`), { timeout: SLOW, after: again });
    return { detail: `${node}; its power was cut while it wrote its credentials`, value: undefined };
  });
}
