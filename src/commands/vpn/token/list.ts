/** `walt vpn token list` */

import { command, jsonOption } from "../../_command.ts";
import { serverOptions, withServer } from "../../_server.ts";
import { listInvitations } from "../_invitations.ts";

export default command({
  name: "walt vpn token list",
  description: "List the tokens, without their secrets",
  examples: ["walt vpn token list", "walt vpn token list --json"],
  args: { ...serverOptions, ...jsonOption },
  run: (args) => withServer(args, (api) => listInvitations(api, "token", args.json)),
});
