/** `walt node cp` */

import { mkdirSync } from "node:fs";
import { SERVER } from "../../api/routes.ts";
import { ALL_NODES } from "../../node-name.ts";
import { command, print } from "../_command.ts";
import { chooseNodes, isPattern } from "./_choose.ts";
import { confirmMany, yesOption } from "./_confirm.ts";
import { copyOf, type NodeCopy, pathsOf, patternsOf } from "./_copy.ts";
import { type Logins, loginOptions, withLogins } from "./_login.ts";
import { copyFailure, type LoginNode } from "./_login-failure.ts";
import { sideBySide } from "./_side-by-side.ts";

export default command({
  name: "walt node cp",
  description:
    "Copy files to nodes or from nodes, as scp does. From several nodes, the files of each go to a folder of its name",
  examples: [
    "walt node cp setup.sh lab-3:/tmp/",
    "walt node cp -r lab-3:/var/log/ logs",
    "walt node cp 'lab-*:/etc/hostname' names",
  ],
  args: {
    src: {
      type: "positional",
      required: true,
      description: "A file here, or NODE:PATH. NODE may be a pattern, as for other commands",
    },
    dst: {
      type: "positional",
      required: true,
      valueHint: "…",
      description: "More of them, and at the end where to: a path here, or NODE:PATH",
    },
    recursive: { type: "boolean", alias: "r", description: "Copy folders with all that is in them" },
    ...yesOption,
    ...loginOptions,
  },
  async run(args, every) {
    const copy = copyOf([...every("src"), ...every("dst")]);
    const patterns = patternsOf(copy);
    await withLogins(args, every("identity"), async (api, logins) => {
      const all = await api.call(SERVER.nodes, {});
      const nodes = chooseNodes(all, patterns);
      if (copy.to === "nodes" && patterns.includes(ALL_NODES))
        await confirmMany(nodes, patterns, "Copy to", args.yes);
      const alone = nodes.length === 1;
      const folders = !alone || patterns.some(isPattern);
      const act = async (node: LoginNode): Promise<{ text: string }> => {
        const isOf = (pattern: string): boolean =>
          chooseNodes(all, [pattern]).some((one) => one.name === node.name);
        await copyOn(logins, node, pathsOf(copy, node.name, isOf, folders), args.recursive ?? false, alone);
        return { text: "copied" };
      };
      await sideBySide(nodes, act, alone ? () => {} : print);
    });
  },
});

/** @throws WaltError when not everything was copied. */
async function copyOn(
  logins: Logins,
  node: LoginNode,
  { sources, target, folder }: NodeCopy,
  recursive: boolean,
  alone: boolean,
): Promise<void> {
  const { status, said } = await logins.on(node, alone, async (options) => {
    if (folder !== undefined) mkdirSync(folder, { recursive: true });
    const command = ["scp", ...options, ...(recursive ? ["-r"] : []), "--", ...sources, target];
    // It shows its progress if standard output is a terminal.
    const scp = logins.spawn(command, ["ignore", alone ? "inherit" : "ignore", "pipe"]);
    const [words, ended] = await Promise.all([scp.stderr.text(), scp.exited]);
    return { status: ended, said: words };
  });
  if (status !== 0) throw copyFailure(said, alone ? node.name : undefined);
  process.stderr.write(said);
}
