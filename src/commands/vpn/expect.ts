/** `walt vpn expect` */

import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { MAC } from "../../parse.ts";
import { command, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { listOptions } from "../_table.ts";
import { INVITATIONS, invitationOptions, invitationOrder, listInvitations, parseId } from "./_invitations.ts";

export default command({
  name: "walt vpn expect",
  description:
    "Accept a board in advance, by its serial number or MAC address. Without these options, list the expected boards. " +
    "These values are not secret: anyone with a card who knows them can be accepted instead",
  examples: [
    "walt vpn expect --serial 00000000a1b2c3d4 --note board-7",
    "walt vpn expect --mac b8:27:eb:01:02:03 --expires 30d",
    "walt vpn expect --json",
    "walt vpn expect --withdraw 4",
  ],
  args: {
    serial: {
      type: "string",
      valueHint: "number",
      description: "The board's serial number, as in /proc/cpuinfo of a Raspberry Pi",
    },
    mac: { type: "string", valueHint: "address", description: "The MAC address of its wired network card" },
    withdraw: { type: "string", valueHint: "id", description: "No longer expect the board with this ID" },
    ...invitationOptions,
    ...listOptions(INVITATIONS.board.columns),
    ...serverOptions,
  },
  async run(args) {
    const mac = args.mac?.toLowerCase();
    const isBoard = mac !== undefined || args.serial !== undefined;
    if (!isBoard && (args.expires !== undefined || args.note !== undefined))
      throw usageError("--expires and --note are for a board: --serial or --mac is missing");
    if (mac !== undefined && !MAC.test(mac))
      throw usageError(`--mac ${JSON.stringify(args.mac)} is not a MAC address such as b8:27:eb:01:02:03`);
    if (args.serial !== undefined && !/^[!-~]{1,40}$/.test(args.serial))
      throw usageError(
        `--serial ${JSON.stringify(args.serial)} is not a serial number (1 to 40 printable ASCII characters)`,
      );
    if (args.withdraw !== undefined) {
      const id = parseId(args.withdraw);
      if (isBoard) throw usageError("--withdraw cannot be used with --mac or --serial");
      await withServer(args, (api) =>
        api.call(SERVER.withdraw, { id, kind: "board" as const, by: operator() }),
      );
      return print(`Board ${id} is no longer expected.`);
    }
    if (!isBoard) return await listInvitations("board", args);
    if (args.columns !== undefined || args.wide) throw usageError("--columns and --wide are for the list");
    const order = { mac, serialNumber: args.serial, ...invitationOrder(args) };
    const added = await withServer(args, (api) => api.call(SERVER.expect, order));
    if (args.json) return print(JSON.stringify(added, null, 2));
    print(
      `The board is expected until ${minute(added.expiresAt)} (UTC). The first one that asks is accepted.`,
    );
    print(`\`walt vpn expect --withdraw ${added.id}\` withdraws this.`);
  },
});
