/** The board's USB sockets belong to the node: sticks are plugged into a running board, and pulled. */

import { createHash, randomBytes } from "node:crypto";
import { eventually } from "../lab/eventually.ts";
import { STICK_BYTES } from "../lab/node-os.ts";
import type { World } from "../lab/world.ts";
import type { Board } from "./board.ts";
import { fetchFrom, PATIENTLY, type Run } from "./context.ts";

/** QEMU's USB stick. */
const STICK = "46f4:0001";

/** A stick that no other is like. */
export class Stick {
  readonly content = randomBytes(1 << 20);

  /** How the node knows it. */
  get sum(): string {
    return createHash("sha256").update(this.content.subarray(0, STICK_BYTES)).digest("hex");
  }
}

/** What the node has: nothing but sticks, of which it reads what is on them. */
async function has(world: World, node: string, sticks: readonly Stick[]): Promise<void> {
  const wanted = [...sticks.map(() => `usb ${STICK}`), ...sticks.map(({ sum }) => `disk ${sum}`).sort()].join(
    "\n",
  );
  const seen = async (): Promise<string> => {
    const lines = ((await fetchFrom(world, node, "cgi-bin/usb")) ?? "").trim().split("\n");
    const [usb, disks] = [/^usb /, /^disk /].map((kind) => lines.filter((line) => kind.test(line)));
    return [...(usb ?? []), ...(disks ?? []).sort()].join("\n");
  };
  await eventually(`the node has\n${wanted}`, seen, { fits: (text) => text === wanted, ...PATIENTLY });
}

/** @param first what was in the socket 1.2 when the board was switched on. */
export async function usb(r: Run, world: World, board: Board, node: string, first: Stick): Promise<void> {
  const [second, third] = [new Stick(), new Stick()];
  await r.steps.run("USB: a stick plugged in before the start", async () => {
    await has(world, node, [first]);
    return { detail: "the node reads what is on it", value: undefined };
  });
  await r.steps.run("USB: one more while the board runs", async () => {
    await board.plug("1.1.2", second.content);
    await has(world, node, [first, second]);
    return { detail: "the node has both, and reads them", value: undefined };
  });
  await r.steps.run("USB: both are pulled", async () => {
    await board.pull("1.2");
    await has(world, node, [second]);
    await board.pull("1.1.2");
    await has(world, node, []);
    return { detail: "the node has neither", value: undefined };
  });
  await r.steps.run("USB: out and in again, at once", async () => {
    await board.plug("1.3", third.content);
    await has(world, node, [third]);
    await board.pull("1.3");
    await board.plug("1.3", first.content);
    await has(world, node, [first]);
    await board.pull("1.3");
    return { detail: "the node has the one that is there now", value: undefined };
  });
}
