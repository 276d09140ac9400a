/** A proxy moves: the lab gives the board another entrypoint and takes the first one away. */

import { WaltError } from "../../src/errors.ts";
import { startSshd } from "../lab/sshd.ts";
import type { World } from "../lab/world.ts";
import type { Board } from "./board.ts";
import { type Run, SLOW } from "./context.ts";
import { comesUp } from "./power.ts";

/** How long a trial of settings may take on an emulated board. */
const WITHIN = "10m";

export async function moveProxy(r: Run, world: World, board: Board): Promise<void> {
  const { server } = world;
  const [old] = world.proxies;
  const [device] = await world.list();
  if (old === undefined || device === undefined) throw new WaltError("there is no proxy or no device");
  const { node } = device;
  const set = async (...words: string[]): Promise<string> =>
    (
      await server.must([world.binary, "node", "set", node, ...words, "--within", WITHIN], {
        timeout: 2 * SLOW,
      })
    ).trim();

  const { host, sshd } = await r.steps.run("a second proxy", async () => {
    const value = await world.addEntrypoint("gate2");
    return { detail: `gate2, at ${value.host.address()}`, value };
  });
  const address = host.address(); // the boards' DNS does not know its name
  const known = `${server.dir}/known-gate2`;
  server.writeFile(known, sshd.hostKeys.map((key) => `${address} ${key}\n`).join(""));
  await r.steps.run("`walt node set`: one more entrypoint", async () => ({
    detail: await set(`entrypoint=${old.name}`, `entrypoint=${address}`, `known-host=${known}`),
    value: undefined,
  }));
  await r.steps.run("`walt node set`: the first one is taken away", async () => {
    const detail = await set(`entrypoint=${address}`);
    await old.sshd.stop("SIGKILL");
    return { detail, value: undefined };
  });
  await r.steps.run("a boot without the first proxy", async () => {
    await board.cutPower();
    await comesUp(world, board, node);
    const [shown] = await world.nodes();
    if (shown?.via !== `${address}:22`) throw new WaltError(`the tunnel goes through ${shown?.via}`);
    return { detail: `up through ${shown.via}: the state partition has it, not the card`, value: undefined };
  });
  await r.steps.run("`walt node set`: what the card says", async () => {
    old.sshd = await startSshd(old.host);
    return { detail: await set("entrypoint=", "known-host="), value: undefined };
  });
}
