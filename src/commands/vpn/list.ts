/** `walt vpn list` */

import { SERVER } from "../../api/routes.ts";
import { plainText, table } from "../../text.ts";
import { command, jsonOption, minute, print } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt vpn list",
  description: "List the registered devices",
  examples: ["walt vpn list", "walt vpn list --all --json"],
  args: {
    all: { type: "boolean", description: "List revoked devices, too" },
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const all = await withServer(args, (api) => api.call(SERVER.devices, {}));
    const devices = all.filter((d) => args.all || d.state !== "revoked");
    if (args.json) return print(JSON.stringify(devices, null, 2));
    if (devices.length === 0)
      return print("There are no registered devices. Accept one with `walt vpn monitor`.");
    print(
      table(
        ["NODE", "STATE", "BOARD", "MODEL", "SERIAL NUMBER", "CODE", "ACCEPTED", "BY", "CERTIFICATE UNTIL"],
        devices.map((d) => [
          d.node,
          d.state,
          d.boardMac,
          // An older version may have stored these without making them safe.
          plainText(d.model),
          plainText(d.serialNumber),
          d.code,
          minute(d.acceptedAt),
          d.acceptedBy,
          d.certificateExpires > new Date().toISOString() ? minute(d.certificateExpires) : "-",
        ]),
      ),
    );
  },
});
