/** `walt vpn list` */

import type { DeviceInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { plainText } from "../../text.ts";
import { command, minute } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { checkListArgs, type List, listOptions, printList } from "../_table.ts";

const LIST: List<DeviceInfo> = {
  columns: [
    { title: "NODE", cell: (d) => d.node },
    { title: "STATE", cell: (d) => d.state },
    { title: "BOARD", cell: (d) => d.boardMac, spare: 1 },
    // An older version may have stored these without making them safe.
    { title: "MODEL", cell: (d) => plainText(d.model), spare: 6 },
    { title: "SERIAL NUMBER", cell: (d) => plainText(d.serialNumber), spare: 5 },
    { title: "CODE", cell: (d) => d.code },
    { title: "ACCEPTED", cell: (d) => minute(d.acceptedAt), spare: 2 },
    { title: "BY", cell: (d) => d.acceptedBy, spare: 3 },
    { title: "CERTIFICATE UNTIL", cell: certificateOf, spare: 4 },
  ],
  by: (d) => d.node,
  empty: "There are no registered devices. Accept one with `walt vpn monitor`.",
};

export default command({
  name: "walt vpn list",
  description: "List the registered devices",
  examples: ["walt vpn list", "walt vpn list --columns node,serial-number", "walt vpn list --all --json"],
  args: {
    all: { type: "boolean", description: "List revoked devices, too" },
    ...listOptions(LIST.columns),
    ...serverOptions,
  },
  async run(args) {
    checkListArgs(LIST, args);
    const all = await withServer(args, (api) => api.call(SERVER.devices, {}));
    printList(
      LIST,
      all.filter((d) => args.all || d.state !== "revoked"),
      args,
    );
  },
});

function certificateOf({ certificateExpires }: DeviceInfo): string {
  return certificateExpires > new Date().toISOString() ? minute(certificateExpires) : "-";
}
