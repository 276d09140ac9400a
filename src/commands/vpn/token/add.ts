/** `walt vpn token add` */

import { MAX_USES } from "../../../api/messages.ts";
import { SERVER } from "../../../api/routes.ts";
import { usageError } from "../../../errors.ts";
import { command, jsonOption, minute, print } from "../../_command.ts";
import { serverOptions, withServer } from "../../_server.ts";
import { invitationOptions, invitationOrder } from "../_invitations.ts";

export default command({
  name: "walt vpn token add",
  description:
    "Make a token. Devices whose card has it are accepted without a question. It is shown only once",
  examples: [
    "walt vpn token add --uses 30 --expires 2d --note summer-school",
    "walt vpn token add --json | jq -r .token > token && walt vpn setup-node --token - < token",
  ],
  args: {
    uses: {
      type: "string",
      valueHint: "number",
      default: "1",
      description: "Number of devices that may use it",
    },
    ...invitationOptions,
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const uses = /^\d{1,6}$/.test(args.uses) ? Number(args.uses) : 0;
    if (uses < 1 || uses > MAX_USES)
      throw usageError(`--uses ${JSON.stringify(args.uses)} is not a number from 1 to ${MAX_USES}`);
    const order = { uses, ...invitationOrder(args) };
    const added = await withServer(args, (api) => api.call(SERVER.addToken, order));
    if (args.json) return print(JSON.stringify(added, null, 2));
    print(added.token);
    const devices = uses === 1 ? "one device" : `${uses} devices`;
    process.stderr.write(
      `Token ${added.id} lets ${devices} in until ${minute(added.expiresAt)} (UTC). It is not shown again.\n` +
        "`walt vpn setup-node --token -` reads it from standard input, and makes a card with it.\n",
    );
  },
});
