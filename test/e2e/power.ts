/** Later boots, and power cuts. */

import { WaltError } from "../../src/errors.ts";
import type { World } from "../lab/world.ts";
import type { Board } from "./board.ts";
import { type Run, SLOW } from "./context.ts";

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

export async function laterBoots(r: Run, world: World, board: Board): Promise<void> {
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
  await world.daemon.waitFor(new RegExp(`event=tunnel-up node=${node}`), { timeout: SLOW, after });
  if (/this device asks for access/.test(log.output)) throw new WaltError("the board asked for access again");
}
