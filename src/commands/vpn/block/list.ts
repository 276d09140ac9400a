/** `walt vpn block list` */

import type { BlockInfo } from "../../../api/messages.ts";
import { SERVER } from "../../../api/routes.ts";
import { command, minute } from "../../_command.ts";
import { serverOptions, withServer } from "../../_server.ts";
import { checkListArgs, type List, listOptions, printList } from "../../_table.ts";

const LIST: List<BlockInfo> = {
  columns: [
    { title: "KIND", cell: (one) => one.kind },
    { title: "BLOCKED", cell: (one) => one.code ?? one.what },
    { title: "BOARD", cell: (one) => one.mac ?? "-", spare: 3 },
    { title: "UNTIL", cell: (one) => minute(one.until) },
    { title: "SINCE", cell: (one) => minute(one.at), spare: 2 },
    { title: "BY", cell: (one) => one.by, spare: 1 },
  ],
  by: (one) => `${one.kind} ${one.code ?? one.what}`,
  empty: "Nothing is blocked.",
};

export default command({
  name: "walt vpn block list",
  description:
    "List what was blocked: keys whose requests no monitor is shown (also those that were denied with `walt vpn deny` while no monitor was running), and sources",
  examples: ["walt vpn block list", "walt vpn block list --json"],
  args: { ...listOptions(LIST.columns), ...serverOptions },
  async run(args) {
    checkListArgs(LIST, args);
    printList(LIST, await withServer(args, (api) => api.call(SERVER.blocks, {})), args);
  },
});
