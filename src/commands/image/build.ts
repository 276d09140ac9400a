/** `walt image build` */

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { loadConfig } from "../../config/load.ts";
import { usageError } from "../../errors.ts";
import type { NodeBuildOptions } from "../../image/node/build.ts";
import { duration } from "../../text.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";

export default command({
  name: "walt image build",
  description:
    "Build the base of SD-card images from Debian's packages, and keep it in the cache. With --node: an image for nodes, for the server's boot files",
  examples: [
    "walt image build",
    "sudo walt image build --node --authorized-keys ~/.ssh/id_ed25519.pub",
    "walt image build --node --arch amd64 --authorized-keys lab_keys -o ./boot",
    "walt image build --mirror http://mirror.lab.example/debian --cache /var/cache/walt",
  ],
  args: {
    node: {
      type: "boolean",
      description: "Build a small Debian for nodes, which runs in memory, and write its boot files",
    },
    arch: {
      type: "enum",
      options: ["arm64", "amd64"],
      description: "With --node: the nodes' architecture (default: arm64, that of a Raspberry Pi's node)",
    },
    "authorized-keys": {
      type: "string",
      valueHint: "file",
      description: "With --node: the public keys that may log in to nodes as root",
    },
    output: {
      type: "string",
      alias: "o",
      valueHint: "folder",
      description: "With --node: the folder of boot files (default: server.network.boot_files)",
    },
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
        "The arm64 walt binary for the card (default: walt-linux-arm64 beside this program, or in /usr/local/lib/walt)",
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
    const forNode = { arch: args.arch, "authorized-keys": args["authorized-keys"], output: args.output };
    const surplus = Object.entries(args.node ? { binary: args.binary } : forNode).find(
      ([, value]) => value !== undefined,
    );
    if (surplus !== undefined)
      throw usageError(
        `--${surplus[0]} is for ${args.node ? "an SD card, not for a node" : "a node: add --node"}`,
      );
    const keyring = args.keyring === undefined ? undefined : keyringFile(args.keyring);
    const { cacheFolder } = await import("../../image/base/cache.ts");
    const start = performance.now();
    const options = {
      cache: cacheFolder(args.cache),
      mirror: args.mirror ?? loadConfig(args.config).image.mirror,
      keyring,
      force: args.force ?? false,
      ...(args.jobs === undefined ? {} : { jobs: Number(args.jobs) }),
      step: (what: string) =>
        void process.stderr.write(`${duration(performance.now() - start).padStart(8)}  ${what}\n`),
    };
    if (args.node) {
      const { boot_files } = loadConfig(args.config)["server.network"];
      await node(options, {
        arch: args.arch ?? "arm64",
        keys: args["authorized-keys"],
        folder: resolve(args.output ?? boot_files),
        json: args.json ?? false,
      });
      return;
    }
    const { buildBase } = await import("../../image/base/build.ts");
    const { findBinary } = await import("../../image/card/binary.ts");
    const base = await buildBase({ ...options, binary: findBinary(args.binary) });
    if (args.json) {
      print(JSON.stringify({ image: base.files.image, cached: base.cached, ...base.record }, null, 2));
    } else {
      const mb = Math.round(base.record.size / 1e6);
      print(`${base.files.image}: ${mb} MB, ${base.cached ? "unchanged since it was built" : "built"}`);
      print(`its manifest: ${base.files.record}`);
    }
  },
});

/**
 * Build a node's image, and write its boot files into a folder.
 * @throws WaltError (usage) without keys: nobody could log in to the node.
 */
async function node(
  options: Omit<NodeBuildOptions, "architecture">,
  o: { arch: "arm64" | "amd64"; keys: string | undefined; folder: string; json: boolean },
): Promise<void> {
  if (o.keys === undefined) {
    throw usageError(
      "nobody could log in to a node with this image: it has no password, and no key is given",
      "Name a file of public keys: --authorized-keys ~/.ssh/id_ed25519.pub (`ssh-keygen -t ed25519` makes one).",
    );
  }
  const { loginKeysFile } = await import("../../image/card/login-keys.ts");
  const { ARCHITECTURES } = await import("../../image/base/architecture.ts");
  const { buildNode } = await import("../../image/node/build.ts");
  const { refuseForeign, writeBootFiles } = await import("../../image/node/boot-files.ts");
  const keys = loginKeysFile(o.keys);
  const architecture = ARCHITECTURES[o.arch];
  refuseForeign(o.folder, { architecture });
  const image = await buildNode({ ...options, architecture });
  options.step("boot files");
  const { place, size } = writeBootFiles(image, o.folder, keys);
  if (o.json) {
    print(JSON.stringify({ folder: place, loaded: size, cached: image.cached, ...image.record }, null, 2));
    return;
  }
  const built = image.cached ? "unchanged since it was built" : "built";
  print(`${place}: a node loads ${Math.round(size / 1e6)} MB; ${built}`);
  print("Nodes boot it from now on: `walt node reboot NODE --hard`, then `walt node shell NODE`.");
}

/** @throws WaltError (usage) when apt could not use this file. */
function keyringFile(given: string): string {
  const file = resolve(given);
  if (/[\s"]/.test(file))
    throw usageError(`--keyring ${JSON.stringify(given)}: apt takes no path with blanks`);
  if (!existsSync(file)) throw usageError(`--keyring ${JSON.stringify(given)}: there is no such file`);
  return file;
}
