/** `walt vpn requests` */

import { SERVER } from "../../api/routes.ts";
import { plainText, table } from "../../text.ts";
import { command, jsonOption, minute, print } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt vpn requests",
  description:
    "List the devices that ask for access: those that are waiting, and those that asked while no monitor was running",
  examples: ["walt vpn requests", "walt vpn requests --json"],
  args: { ...serverOptions, ...jsonOption },
  async run(args) {
    const requests = await withServer(args, (api) => api.call(SERVER.requests, {}));
    if (args.json) return print(JSON.stringify(requests, null, 2));
    if (requests.length === 0) return print("No device asks for access.");
    print(
      table(
        ["CODE", "STATE", "BOARD", "MODEL", "SERIAL NUMBER", "FROM", "LAST ASKED", "TIMES"],
        requests.map((r) => [
          r.code,
          r.state,
          r.mac,
          plainText(r.model),
          plainText(r.serialNumber),
          r.address,
          minute(r.lastAskedAt),
          String(r.asked),
        ]),
      ),
    );
    for (const { code, warnings } of requests)
      for (const warning of warnings) print(`WARNING: ${code}: ${warning}`);
    print("\nCompare the code with the one that the device shows. Then: walt vpn accept CODE, or deny CODE.");
  },
});
