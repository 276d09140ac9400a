/** `walt node board` */

import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { MAC } from "../../parse.ts";
import { quoted } from "../../text.ts";
import { command, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt node board",
  description:
    "Say which board is a node's, by its MAC address: where two boards use one key, this one gets the tunnel. Also after a card was moved to another board",
  examples: ["walt node board lab-3 b8:27:eb:01:02:03"],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    mac: { type: "positional", required: true, description: "The MAC address of its board" },
    ...serverOptions,
  },
  async run(args) {
    const mac = args.mac.toLowerCase();
    if (!MAC.test(mac))
      throw usageError(`${quoted(args.mac)} is no MAC address`, "Such as b8:27:eb:01:02:03.");
    await withServer(args, (api) => api.call(SERVER.board, { node: args.node, mac, by: operator() }));
    print(`${args.node}: its board is the one with MAC ${mac}.`);
  },
});
