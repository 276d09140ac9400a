/** `walt node rename` */

import { SERVER } from "../../api/routes.ts";
import { parseNodeName } from "../../node-name.ts";
import { command, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt node rename",
  description: "Give a node another name. Its MAC and IP address stay",
  examples: ["walt node rename vpn-010203 lab-3"],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    new: { type: "positional", required: true, description: "Its new name: letters, digits and dashes" },
    ...serverOptions,
  },
  async run(args) {
    const name = parseNodeName(args.new);
    await withServer(args, (api) => api.call(SERVER.rename, { node: args.node, name, by: operator() }));
    print(`${args.node} is called ${name} now.`);
  },
});
