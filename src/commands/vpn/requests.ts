/** `walt vpn requests` */

import type { ListedRequest } from "../../api/events.ts";
import { SERVER } from "../../api/routes.ts";
import { plainText } from "../../text.ts";
import { command, minute } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { checkListArgs, type List, listOptions, printList } from "../_table.ts";

const LIST: List<ListedRequest> = {
  columns: [
    { title: "CODE", cell: (r) => r.code },
    { title: "STATE", cell: (r) => r.state },
    { title: "BOARD", cell: (r) => r.mac },
    { title: "MODEL", cell: (r) => plainText(r.model), spare: 5 },
    { title: "SERIAL NUMBER", cell: (r) => plainText(r.serialNumber), spare: 3 },
    { title: "FROM", cell: (r) => r.address, spare: 2 },
    { title: "LAST ASKED", cell: (r) => minute(r.lastAskedAt), spare: 1 },
    { title: "TIMES", cell: (r) => String(r.asked), spare: 4 },
  ],
  by: (r) => r.code,
  empty: "No device asks for access.",
};

export default command({
  name: "walt vpn requests",
  description:
    "List the devices that ask for access: those that are waiting, and those that asked while no monitor was running",
  examples: ["walt vpn requests", "walt vpn requests --json"],
  args: { ...listOptions(LIST.columns), ...serverOptions },
  async run(args) {
    checkListArgs(LIST, args);
    const requests = await withServer(args, (api) => api.call(SERVER.requests, {}));
    printList(LIST, requests, args);
    if (args.json || requests.length === 0) return;
    for (const { code, warnings } of requests)
      for (const warning of warnings) process.stderr.write(`WARNING: ${code}: ${warning}\n`);
    process.stderr.write(
      "\nCompare the code with the one that the device shows. Then: walt vpn accept CODE, or deny CODE.\n",
    );
  },
});
