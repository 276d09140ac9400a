/** The image that boards of a laboratory's world start from. */

import { statSync } from "node:fs";
import type { World } from "../lab/world.ts";

/**
 * `walt vpn setup-node` on the server; path of the image, as the outside sees it, and its size in bytes.
 * @param more options of the command.
 */
export async function makeCard(
  world: World,
  base: string,
  more: readonly string[] = [],
): Promise<{ image: string; size: number }> {
  const { server } = world;
  const [known, output] = [`${server.dir}/known-card`, `${server.dir}/rpi3bp-vpn.dd`];
  // The server does not reach every proxy: keys are given as an operator would who collected them there.
  server.writeFile(
    known,
    world.proxies.flatMap(({ name, sshd }) => sshd.hostKeys.map((key) => `${name} ${key}\n`)).join(""),
  );
  await server.must(
    [
      ...[world.binary, "vpn", "setup-node", "--entrypoint", world.entrypoint, "--known-hosts", known],
      ...["--base", base, "-o", output, ...more],
    ],
    { timeout: 120_000 },
  );
  const image = server.path(output);
  return { image, size: statSync(image).size };
}
