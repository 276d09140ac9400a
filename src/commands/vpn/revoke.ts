/** `walt vpn revoke` */

import { SERVER } from "../../api/routes.ts";
import { command, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt vpn revoke",
  description: "Revoke the device of a node: end its connections, and refuse its key from now on",
  examples: ["walt vpn revoke vpn-010203"],
  args: {
    node: { type: "positional", required: true, description: "The node's name" },
    ...serverOptions,
  },
  async run(args) {
    const { passesUntil } = await withServer(args, (api) =>
      api.call(SERVER.revoke, { node: args.node, by: operator() }),
    );
    print(
      `${args.node} is revoked: its tunnel is down and its key is refused. To enrol the device again, run \`walt device forget\` on it.`,
    );
    if (passesUntil === null) return;
    print(
      `The device can still open connections to the proxies, which lead to a server that refuses it, until ${minute(passesUntil)} (UTC).\n` +
        "To keep it out there at once: make the proxies' script again with `walt vpn setup-proxy`, and run it with --limits on each proxy.",
    );
  },
});
