/** One world for all tests of a suite: made once, and restored before each test that wants it. */

import { afterAll } from "bun:test";
import { World, type WorldOptions } from "./world.ts";

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
