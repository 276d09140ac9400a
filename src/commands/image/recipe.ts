/** `walt image recipe` */

import { resolve } from "node:path";
import { command, print } from "../_command.ts";

export default command({
  name: "walt image recipe",
  description:
    "Write a Containerfile that turns an arm64 image of WalT into one for nodes of Raspberry Pi boards",
  examples: ["walt image recipe --model qemu-arm-64 -o pi-node"],
  args: {
    model: {
      type: "enum",
      options: ["qemu-arm-64"],
      default: "qemu-arm-64",
      description: "The model of the nodes that the new image is for",
    },
    output: {
      type: "string",
      alias: "o",
      valueHint: "folder",
      default: "walt-image",
      description: "The folder to write",
    },
  },
  async run(args) {
    const { writeRecipe } = await import("../../image/walt/recipe.ts");
    const folder = resolve(args.output);
    writeRecipe(folder);
    print(`${folder} is written. Copy it to the WalT server, and build the image there:`);
    print(
      `podman build --platform linux/arm64 --build-arg IMAGE=docker.io/USER/IMAGE:TAG -t docker.io/USER/NEW-IMAGE ${args.output}`,
    );
  },
});
