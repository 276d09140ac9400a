/** `walt vpn expect` */

import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { MAC } from "../../parse.ts";
import { command, jsonOption, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { invitationOptions, invitationOrder, listInvitations, parseId } from "./_invitations.ts";

export default command({
  name: "walt vpn expect",
  description:
    "Accept a board before it asks, by its serial number or MAC address; without either, list those expected. " +
    "Neither is secret: whoever has a card and knows them can come in instead",
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
      description: "The board's serial number, as /proc/cpuinfo of a Raspberry Pi has it",
    },
    mac: { type: "string", valueHint: "address", description: "The MAC address of its wired network card" },
    withdraw: { type: "string", valueHint: "id", description: "Expect this one no more" },
    ...invitationOptions,
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const mac = args.mac?.toLowerCase();
    if (mac !== undefined && !MAC.test(mac))
      throw usageError(`--mac ${JSON.stringify(args.mac)} is no MAC address such as b8:27:eb:01:02:03`);
    if (args.serial !== undefined && !/^[!-~]{1,40}$/.test(args.serial))
      throw usageError(`--serial ${JSON.stringify(args.serial)} is no serial number`);
    if (args.withdraw !== undefined) {
      const id = parseId(args.withdraw);
      if (mac !== undefined || args.serial !== undefined)
        throw usageError("--withdraw goes without --mac and --serial");
      await withServer(args, (api) =>
        api.call(SERVER.withdraw, { id, kind: "board" as const, by: operator() }),
      );
      return print(`Board ${id} is not expected any more.`);
    }
    if (mac === undefined && args.serial === undefined)
      return await withServer(args, (api) => listInvitations(api, "board", args.json));
    const order = { mac, serialNumber: args.serial, ...invitationOrder(args) };
    const added = await withServer(args, (api) => api.call(SERVER.expect, order));
    if (args.json) return print(JSON.stringify(added, null, 2));
    print(`The board is expected until ${minute(added.expiresAt)} (UTC): the first that asks comes in.`);
    print(`\`walt vpn expect --withdraw ${added.id}\` takes it back.`);
  },
});
