/** `walt image build` */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { loadConfig } from "../../config/load.ts";
import { usageError } from "../../errors.ts";
import { duration } from "../../text.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";

export default command({
  name: "walt image build",
  description: "Build the base of SD-card images from Debian's packages, and keep it in the cache",
  examples: [
    "walt image build",
    "walt image build --mirror http://mirror.lab.example/debian --cache /var/cache/walt",
  ],
  args: {
    mirror: {
      type: "string",
      valueHint: "url",
      description: "The Debian mirror (default: image.mirror, or the one that this machine's apt uses)",
    },
    keyring: {
      type: "string",
      valueHint: "file",
      description: "The keys that sign the mirror's packages (default: Debian's)",
    },
    binary: {
      type: "string",
      valueHint: "file",
      description:
        "The arm64 walt binary (default: walt-linux-arm64 beside this program, or in /usr/local/lib/walt)",
    },
    cache: {
      type: "string",
      valueHint: "folder",
      description: "The folder of downloads and bases (default: ~/.cache/walt)",
    },
    jobs: {
      type: "string",
      valueHint: "n",
      description: "Number of processors for compression (default: all)",
    },
    force: { type: "boolean", description: "Build the base even if nothing has changed" },
    ...configOption,
    ...jsonOption,
  },
  async run(args) {
    if (args.jobs !== undefined && !/^[1-9]\d{0,2}$/.test(args.jobs))
      throw usageError(`--jobs ${JSON.stringify(args.jobs)} is not a number of processors (1 to 999)`);
    const keyring = args.keyring === undefined ? undefined : keyringFile(args.keyring);
    const { buildBase } = await import("../../image/base/build.ts");
    const { cacheFolder } = await import("../../image/base/cache.ts");
    const { findBinary } = await import("../../image/card/binary.ts");
    const start = performance.now();
    const base = await buildBase({
      cache: cacheFolder(args.cache),
      binary: findBinary(args.binary),
      mirror: args.mirror ?? loadConfig(args.config).image.mirror,
      keyring,
      force: args.force ?? false,
      ...(args.jobs === undefined ? {} : { jobs: Number(args.jobs) }),
      step: (what) => process.stderr.write(`${duration(performance.now() - start).padStart(8)}  ${what}\n`),
    });
    if (args.json) {
      print(JSON.stringify({ image: base.files.image, cached: base.cached, ...base.record }, null, 2));
    } else {
      const mb = Math.round(base.record.size / 1e6);
      print(`${base.files.image}: ${mb} MB, ${base.cached ? "unchanged since it was built" : "built"}`);
      print(`its manifest: ${base.files.record}`);
    }
  },
});

/** @throws WaltError (usage) when apt could not use this file. */
function keyringFile(given: string): string {
  const file = resolve(given);
  if (/[\s"]/.test(file))
    throw usageError(`--keyring ${JSON.stringify(given)}: apt takes no path with blanks`);
  if (!existsSync(file)) throw usageError(`--keyring ${JSON.stringify(given)}: there is no such file`);
  return file;
}
