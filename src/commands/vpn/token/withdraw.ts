/** `walt vpn token withdraw` */

import { SERVER } from "../../../api/routes.ts";
import { command, print } from "../../_command.ts";
import { operator, serverOptions, withServer } from "../../_server.ts";
import { parseId } from "../_invitations.ts";

export default command({
  name: "walt vpn token withdraw",
  description: "Withdraw a token: no more devices are accepted by it. Accepted devices stay accepted",
  examples: ["walt vpn token withdraw 3"],
  args: {
    id: { type: "positional", required: true, description: "Its ID in `walt vpn token list`" },
    ...serverOptions,
  },
  async run(args) {
    const id = parseId(args.id);
    await withServer(args, (api) =>
      api.call(SERVER.withdraw, { id, kind: "token" as const, by: operator() }),
    );
    print(
      `Token ${id} is withdrawn. Devices that were accepted by it stay accepted; \`walt vpn list\` shows them.`,
    );
  },
});
