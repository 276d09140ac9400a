/** Later boots, and power cuts. */

import { WaltError } from "../../src/errors.ts";
import type { World } from "../lab/world.ts";
import { Board } from "./board.ts";
import { type Run, SLOW } from "./context.ts";

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
  await world.daemon.waitFor(new RegExp(`tunnel up node=${node}`), { timeout: SLOW, after });
  if (/this device asks as/.test(log.output)) throw new WaltError("the board asked for access again");
}

/** Another card with the same image, whose power is cut while it writes what it was granted. */
export async function secondCard(r: Run, world: World, image: string): Promise<void> {
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
