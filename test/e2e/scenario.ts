/** The card's way from `walt image build` to a running VM in an emulated board, step by step. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, WaltError } from "../../src/errors.ts";
import { Steps } from "../demo/steps.ts";
import { World } from "../lab/world.ts";
import type { E2eOptions, Run } from "./context.ts";
import { firstBoot, nodeBoots, nodeFiles } from "./first-boot.ts";
import { makeBase, personalise } from "./image.ts";
import { moveProxy } from "./move.ts";
import { laterBoots, secondBoot } from "./power.ts";
import { secondCard } from "./second-card.ts";
import { startRouter } from "./site.ts";
import { Stick, usb } from "./usb.ts";
import { atWaltServer } from "./walt-server.ts";

/** Lines of each log that a failure shows; the whole logs are in files. */
const SHOWN = 60;

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
    const stick = new Stick();
    const board = await firstBoot(r, world, image, stick.content);
    await atWaltServer(r, world);
    if (!options.short) {
      const node = await nodeBoots(r, world);
      await usb(r, world, board, node, stick);
      await secondBoot(r, world, board);
      await moveProxy(r, world, board);
      await laterBoots(r, world, board);
      await secondCard(r, world, image);
    }
  } catch (error) {
    failure =
      error instanceof WaltError ? [error.message, error.hint].filter((t) => t).join("\n") : messageOf(error);
    process.stderr.write(`e2e: ${failure}\n\n${ends(r)}\n`);
  }
  const kept =
    options.logs ?? (failure === undefined ? undefined : mkdtempSync(join(tmpdir(), "walt-e2e-logs-")));
  if (kept !== undefined) keepLogs(r, kept);
  await stop();
  const total = Math.round(performance.now() - start);
  if (options.json) {
    const report = { ok: failure === undefined, failure: failure ?? null, total, steps: r.steps.done };
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  }
  out.write(`\n${failure === undefined ? "passed" : "FAILED"} in ${Math.round(total / 1000)} s\n`);
  if (kept !== undefined) out.write(`whole logs: ${kept}\n`);
  return failure === undefined ? 0 : 1;
}

/** Who said what, so far. */
function logs(r: Run): { name: string; text: string }[] {
  return [
    { name: "world.log", text: r.world?.logs() ?? "" },
    { name: "router.log", text: r.router?.output ?? "" },
    { name: "node-at-walt.console", text: r.console?.output ?? "" },
    ...r.boards.map((board) => ({ name: `${board.host.name}.console`, text: board.log() })),
  ];
}

/** The end of what each of them said. */
function ends(r: Run): string {
  const parts = logs(r).flatMap(({ name, text }) =>
    name === "world.log" ? text.split(/^--- (?=\w+\n)/m) : [`${name}\n${text}`],
  );
  const end = (part: string): string => {
    const [name = "", ...lines] = part.trimEnd().split("\n");
    return [`--- ${name}`, ...lines.slice(-SHOWN)].join("\n");
  };
  return parts
    .filter((part) => part !== "")
    .map(end)
    .join("\n");
}

function keepLogs(r: Run, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const { name, text } of logs(r)) writeFileSync(join(folder, name), text);
}

async function makeWorld(r: Run): Promise<World> {
  return await r.steps.run("hosts", async () => {
    const world = await World.create();
    r.world = world;
    // BBR, which a machine may have by default, takes the pauses of an emulated board for a slow path: a node then
    // loads half as much in the same time.
    await world.server.must(["sh", "-c", "echo reno > /proc/sys/net/ipv4/tcp_congestion_control"]);
    const router = await world.lab.host("router");
    r.router = await startRouter(
      router,
      Object.fromEntries(world.proxies.map(({ name, host }) => [name, host.address()])),
    );
    return { detail: "server, proxy with sshd, router with DHCP and DNS", value: world };
  });
}
