/** The image that devices of a laboratory's world start from. */

import { readFileSync } from "node:fs";
import { type WrittenImage, writeImage } from "../../src/image/write.ts";
import type { World } from "../lab/world.ts";

/** @param base path of the base. @param output path of the image. */
export async function makeCard(world: World, base: string, output: string): Promise<WrittenImage> {
  const folder = `${world.server.dir}/card`;
  const known = `${world.server.dir}/known-card`;
  // The server does not reach every proxy: keys are given as an operator would who collected them there.
  world.server.writeFile(
    known,
    world.proxies.flatMap(({ name, sshd }) => sshd.hostKeys.map((key) => `${name} ${key}\n`)).join(""),
  );
  await world.must(
    world.server,
    ...["vpn", "setup-node", "--entrypoint", world.entrypoint, "--known-hosts", known],
    ...["--board", "rpi-3-b-plus", "-o", folder],
  );
  const names = ["walt.toml", "known_hosts", "enrolment_key"];
  const files = names.map((name) => [name, readFileSync(world.server.path(`${folder}/${name}`))] as const);
  return await writeImage({
    base,
    output,
    deviceFiles: Object.fromEntries(files),
    compress: false,
    force: false,
  });
}
