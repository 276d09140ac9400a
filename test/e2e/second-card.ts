/** Another card with the same image, whose power is cut again and again while it writes what it was granted. */

import { WaltError } from "../../src/errors.ts";
import type { World } from "../lab/world.ts";
import { Board } from "./board.ts";
import { type Run, SLOW } from "./context.ts";

/** After how many sectors of writing its credentials, some 55 in all, the power is cut; in one boot after the other. */
const CUTS = [1, 14, 28];

export async function secondCard(r: Run, world: World, image: string): Promise<void> {
  const board = await Board.create(await world.lab.host("board2"), image, "52:54:00:aa:00:02");
  r.boards.push(board);
  const first = await world.list();
  let node = "";
  await r.steps.run("a second card", async () => {
    let sectors = 0;
    await board.powerOn();
    await board.console.waitFor(/denied: nobody runs/, { timeout: SLOW });
    const monitor = await world.monitor();
    await monitor.process.waitFor(/Accept this device\? \(y\/n\) /, { timeout: SLOW });
    const [after, written] = [world.daemon.position, board.written];
    const cut = board.cutPowerAt(written + 1, SLOW);
    monitor.process.write("y\n");
    sectors = (await cut) - written;
    [, node = ""] = await world.daemon.waitFor(/device accepted node=(\S+)/, { after, timeout: SLOW });
    await monitor.stop();
    if (first.some((device) => device.node === node))
      throw new WaltError(`it became ${node}, which there is already`);
    return {
      detail: `${node}; its power was cut after ${sectors} sectors of its credentials`,
      value: undefined,
    };
  });
  // What was not written is asked for again, and a key that the server knows is granted without a person.
  for (const cut of CUTS.slice(1)) {
    await r.steps.run("power cut while it writes its credentials", async () => {
      let detail = "";
      await board.powerOn();
      const [, asks] = await board.console.waitFor(/credentials: (asking) the server|tunnel: connecting/, {
        timeout: SLOW,
      });
      const written = board.written;
      if (asks === undefined) detail = "it has them already";
      else detail = `after ${(await board.cutPowerAt(written + cut, SLOW)) - written} sectors of them`;
      await board.cutPower();
      return { detail, value: undefined };
    });
  }
  await r.steps.run("the boot after that", async () => {
    const after = world.daemon.position;
    await board.powerOn();
    await world.daemon.waitFor(new RegExp(`tunnel up node=${node}`), { timeout: SLOW, after });
    await board.cutPower();
    return { detail: `${node} is up without a person`, value: undefined };
  });
}
