/** One world for all tests of a suite: made once, and restored before each test that wants it. */

import { afterAll } from "bun:test";
import { World, type WorldDevice, type WorldOptions } from "./world.ts";

/**
 * To be called in a `describe`. The result is called at the beginning of a test, and gives the world as it was made, with these lines in the
 * server's [server] table. The world goes with the suite.
 */
export function sharedWorld(
  options: Pick<WorldOptions, "proxies"> = {},
): (server?: string) => Promise<World> {
  let world: World | undefined;
  const dispose = async (): Promise<void> => {
    const last = world;
    world = undefined;
    await last?.[Symbol.asyncDispose]();
  };
  afterAll(dispose);
  return async (server = "") => {
    try {
      await world?.restore(server);
    } catch {
      await dispose(); // a test left it in a state that there is no way back from
    }
    world ??= await World.create({ ...options, server });
    return world;
  };
}

/**
 * What `make` made of a fresh world with devices, for all tests that leave their tunnels up. It is made again after a test that did not, and
 * after one that called `fresh`.
 */
export function sharedDevices<T>(
  fresh: () => Promise<World>,
  make: (world: World) => Promise<T>,
): () => Promise<T> {
  let last: { world: World; devices: readonly WorldDevice[]; made: T } | undefined;
  const isUp = async (): Promise<boolean> => {
    if (last === undefined) return false;
    const { world, devices } = last;
    if (world.devices.length !== devices.length || !devices.every((one) => world.devices.includes(one)))
      return false;
    const nodes = await world.nodes().catch(() => []);
    if (nodes.length !== devices.length || nodes.some(({ state }) => state !== "up")) return false;
    await Promise.all(devices.map((device) => device.isUp())); // they hear of it later than the server
    return true;
  };
  return async () => {
    if (last === undefined || !(await isUp())) {
      last = undefined;
      const world = await fresh();
      const made = await make(world);
      last = { world, devices: [...world.devices], made };
    }
    return last.made;
  };
}
