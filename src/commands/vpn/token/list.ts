/** `walt vpn token list` */

import { command } from "../../_command.ts";
import { serverOptions } from "../../_server.ts";
import { listOptions } from "../../_table.ts";
import { INVITATIONS, listInvitations } from "../_invitations.ts";

export default command({
  name: "walt vpn token list",
  description: "List the tokens, without their secrets",
  examples: ["walt vpn token list", "walt vpn token list --json"],
  args: { ...listOptions(INVITATIONS.token.columns), ...serverOptions },
  run: (args) => listInvitations("token", args),
});
