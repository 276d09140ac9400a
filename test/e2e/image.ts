/** From the compiled binaries to the image of a card. */

import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import { WaltError } from "../../src/errors.ts";
import { checkImage } from "../../src/image/card/check.ts";
import { run } from "../../src/linux/run.ts";
import { ownTarget, waltBinary } from "../lab/binary.ts";
import type { World } from "../lab/world.ts";
import { makeCard } from "./card.ts";
import type { Run } from "./context.ts";

/** The compiled binaries alone, in a folder outside the repository, make the base. */
export async function makeBase(r: Run): Promise<string> {
  const walt = await r.steps.run("binaries", async () => {
    for (const target of ["x64", "arm64"] as const) {
      const to = join(r.outside, `walt-linux-${target}`);
      copyFileSync(await waltBinary(target), to);
      chmodSync(to, 0o755);
    }
    return {
      detail: "x64 and arm64, in a folder of their own",
      value: join(r.outside, `walt-linux-${ownTarget()}`),
    };
  });
  const build = async (...args: string[]) => {
    const cache = r.options.cache === undefined ? [] : ["--cache", r.options.cache];
    const text = await run([walt, "image", "build", "--json", ...cache, ...args], {
      timeout: 1_200_000,
      env: { PATH: process.env["PATH"], HOME: process.env["HOME"] },
    });
    return JSON.parse(text) as { image: string; size: number; sha256: string; cached: boolean };
  };
  const first = await r.steps.run("`walt image build`", async () => {
    const built = await build();
    const detail = `${Math.round(built.size / 1e6)} MB${built.cached ? ", the cached one" : ""}`;
    return { detail, value: built };
  });
  if (r.options.short) return first.image;
  return await r.steps.run("the same once more", async () => {
    const { image, sha256 } = await build("--force", "--jobs", "1");
    if (sha256 !== first.sha256) throw new WaltError("the same inputs gave another base");
    return { detail: `the same bytes, SHA-256 ${sha256.slice(0, 12)}…`, value: image };
  });
}

/** `walt vpn setup-node`, and a look at what it wrote; the image. */
export async function personalise(r: Run, world: World, base: string): Promise<string> {
  const image = await r.steps.run("`walt vpn setup-node`", async () => {
    const { image: path, size } = await makeCard(world, base);
    return { detail: `rpi3bp-vpn.dd, ${Math.round(size / 1e6)} MB`, value: path };
  });
  await r.steps.run("checks on the image", async () => {
    const found = await checkImage(image);
    if (found.problems.length > 0)
      throw new WaltError(`the image is not right: ${found.problems.join("; ")}`);
    return { detail: `${found.files} files in the root, ${found.checks} checks`, value: undefined };
  });
  return image;
}
