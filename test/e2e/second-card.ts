/** Another card with the same image, whose power is cut again and again while it writes what it was granted. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import type { World } from "../lab/world.ts";
import { Board } from "./board.ts";
import { type Run, SLOW } from "./context.ts";
import { checkState, type StateCheck } from "./state.ts";
import type { Write } from "./write-log.ts";

/** After how many sectors of writing its credentials, some 55 in all, the power is cut; in one boot after the other. */
const CUTS = [1, 14, 28];

/** Sectors a second that the card takes: slow enough for a cut at the right one, also when this machine is busy. */
const SPEED = 100;

/** What was on the state partition when the board was switched on, and what it wrote until its power was cut. */
interface Life {
  content: Buffer;
  start: number;
  writes: readonly Write[];
}

export async function secondCard(r: Run, world: World, image: string): Promise<void> {
  const board = await Board.create(await world.lab.host("board2"), image, "52:54:00:aa:00:02", SPEED);
  r.boards.push(board);
  const lives: Life[] = [];
  const live = async (life: () => Promise<void>): Promise<void> => {
    const before = board.readState();
    await board.powerOn();
    await life();
    lives.push({ ...before, writes: board.writes() });
  };
  const first = await world.list();
  let node = "";
  await r.steps.run("a second card", async () => {
    let sectors = 0;
    await live(async () => {
      await board.console.waitFor(/denied: nobody runs/, { timeout: SLOW });
      const monitor = await world.monitor();
      const { code } = await monitor.question({ timeout: SLOW });
      const [after, written] = [world.daemon.position, board.written];
      const cut = board.cutPowerAt(written + 1, SLOW);
      await monitor.type(code);
      sectors = (await cut) - written;
      [, node = ""] = await world.daemon.waitFor(/event=device-accepted node=(\S+)/, {
        after,
        timeout: SLOW,
      });
      await monitor.stop();
    });
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
      await live(async () => {
        const [, asks] = await board.console.waitFor(/credentials: (asking) the server|tunnel: connecting/, {
          timeout: SLOW,
        });
        const written = board.written;
        if (asks === undefined) detail = "it has them already";
        else detail = `after ${(await board.cutPowerAt(written + cut, SLOW)) - written} sectors of them`;
        await board.cutPower();
      });
      return { detail, value: undefined };
    });
  }
  await r.steps.run("the boot after that", async () => {
    const after = world.daemon.position;
    await live(async () => {
      await world.daemon.waitFor(new RegExp(`event=tunnel-up node=${node}`), { timeout: SLOW, after });
      await board.cutPower();
    });
    return { detail: `${node} is up without a person`, value: undefined };
  });
  await r.steps.run("a power cut after each single sector", async () => ({
    detail: await everyCut(r, lives, node),
    value: undefined,
  }));
}

/** Each state that the card has ever been in is one that the next boot goes on from. */
async function everyCut(r: Run, lives: readonly Life[], node: string): Promise<string> {
  const folder = mkdtempSync(join(r.outside, "state-"));
  const file = join(folder, "state");
  const counts = { states: 0, without: 0, with: 0, thorough: 0 };
  let before: StateCheck = { key: undefined, node: undefined, thorough: false };
  for (const { content, start, writes } of lives) {
    const state = Buffer.from(content);
    const inside = writes.filter(({ offset }) => offset >= start && offset < start + state.length);
    for (const [index, { offset, data }] of inside.entries()) {
      state.set(data, offset - start);
      writeFileSync(file, state);
      const found = await checkState(file, folder);
      const where = `after ${index + 1} of ${inside.length} sectors`;
      if (before.key !== undefined && found.key !== before.key)
        throw new WaltError(`${where} the device has lost its key`);
      if (found.node !== before.node && (before.node !== undefined || found.node !== node))
        throw new WaltError(`${where} the device is ${found.node}, and was ${before.node}`);
      before = found;
      counts.states++;
      if (found.thorough) counts.thorough++;
      counts[found.node === undefined ? "without" : "with"]++;
    }
  }
  rmSync(folder, { recursive: true });
  if (before.node === undefined) throw new WaltError("the credentials are not on the card");
  return (
    `${counts.states} states of the card, ${counts.without} without credentials and ${counts.with} with them, none damaged; ` +
    `${counts.thorough} took more than the journal`
  );
}
