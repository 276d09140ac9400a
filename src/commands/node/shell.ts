/** `walt node shell` */

import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { quoted } from "../../text.ts";
import { command } from "../_command.ts";
import { chooseNodes } from "./_choose.ts";
import { loginOptions, withLogins } from "./_login.ts";
import { sshOn } from "./_ssh.ts";

export default command({
  name: "walt node shell",
  description: "Open a shell on a node, through ssh to its own sshd. ~. leaves a shell that hangs",
  examples: [
    "walt node shell lab-3",
    "walt node shell lab-3 --user alice",
    "walt node shell lab-3 --server ssh://alice@walt.lab.example",
  ],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    ...loginOptions,
  },
  async run(args, every) {
    await withLogins(args, every("identity"), async (api, logins) => {
      const [node, ...others] = chooseNodes(await api.call(SERVER.nodes, {}), [args.node]);
      if (node === undefined || others.length > 0) throw usageError(`${quoted(args.node)} is not one node`);
      process.exitCode = await sshOn(logins, node, {});
    });
  },
});
