/** Later boots, and power cuts. */

import { randomBytes } from "node:crypto";
import type { DeviceInfo } from "../../src/api/messages.ts";
import { WaltError } from "../../src/errors.ts";
import type { LabProcess } from "../lab/process.ts";
import type { World } from "../lab/world.ts";
import type { Board } from "./board.ts";
import { DOWNLOAD, type Run, SLOW } from "./context.ts";

/** Lines of the console at which the power is cut: from the kernel's first word to the running VM. */
const MOMENTS = [
  /\[ +\d+\.\d+\]/,
  /walt-os: this is an emulated board/,
  /walt-os: started/,
  /walt-os: \w+ has a link/,
  /has the address/,
  /device starts/,
  /proxies: connecting to the entrypoint/,
  /tunnel: connecting to the server/,
  /vm: starting the virtual machine/,
  /virtual machine runs/,
];

/** With the node's console open in the lab all the while. */
export async function secondBoot(r: Run, world: World, board: Board): Promise<void> {
  const known = await onlyDevice(world);
  const console = world.server.spawn([world.binary, "node", "console", known.node]);
  await console.waitFor(/walt-node: ready/, { timeout: SLOW });
  await r.steps.run("second boot", async () => {
    await board.cutPower();
    await comesUp(world, board, known.node);
    return { detail: `${known.node} again, without asking`, value: undefined };
  });
  await r.steps.run("its console, from the lab", async () => {
    await talks(console, console.position);
    return {
      detail: "open since before the power cut, shows the node's second boot, and takes what is typed",
      value: undefined,
    };
  });
  await r.steps.run("`walt node reboot --board`", async () => {
    const shown = console.position;
    const detail = await rebootBoard(world, board, known.node);
    await talks(console, shown);
    return { detail, value: undefined };
  });
  await console.stop();
}

export async function laterBoots(r: Run, world: World, board: Board): Promise<void> {
  const known = await onlyDevice(world);
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

/** The lab has the board reboot, and it comes up again; how. */
export async function rebootBoard(world: World, board: Board, node: string): Promise<string> {
  const [log, server] = [board.console.position, world.daemon.position];
  await board.allowReset();
  const said = await world.must(world.server, "node", "reboot", node, "--board");
  await board.console.waitFor(/reboot: Restarting system/, { after: log, timeout: SLOW });
  await board.console.waitFor(/walt-os: started \d+ s after the kernel/, { after: log, timeout: SLOW });
  await world.daemon.waitFor(tunnelUp(node), { after: server, timeout: SLOW });
  return `${said.trim()}: init ends everything, and the kernel resets the processor by its watchdog`;
}

async function onlyDevice(world: World): Promise<DeviceInfo> {
  const [known] = await world.list();
  if (known === undefined) throw new WaltError("the server has no device");
  return known;
}

const tunnelUp = (node: string): RegExp => new RegExp(`event=tunnel-up node=${node}`);

/** The node boots, as its console shows, and hears what is typed there. */
async function talks(console: LabProcess, after: number): Promise<void> {
  await console.waitFor(/walt-node: ready/, { after, timeout: DOWNLOAD });
  const word = randomBytes(4).toString("hex");
  console.write(`${word}\n`);
  await console.waitFor(new RegExp(`walt-node: heard ${word}`), { after, timeout: SLOW });
}

/** Switched on, the board has its VPN as this node, and did not ask for it. */
export async function comesUp(world: World, board: Board, node: string): Promise<void> {
  const after = world.daemon.position;
  const log = await board.powerOn();
  await world.daemon.waitFor(tunnelUp(node), { timeout: SLOW, after });
  if (/this device asks for access/.test(log.output)) throw new WaltError("the board asked for access again");
}
