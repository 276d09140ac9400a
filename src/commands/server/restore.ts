/** `walt server restore` */

import { refuseSecond } from "../../api/listen.ts";
import { loadConfig, requireRole } from "../../config/load.ts";
import { restoreCopy } from "../../server/registry-copies.ts";
import { command, configOption, localTime, print } from "../_command.ts";

export default command({
  name: "walt server restore",
  description:
    "Put the newest whole copy of the registry in the place of a damaged one. Stop the server first. What was there is kept beside it",
  examples: ["sudo walt server restore"],
  args: { ...configOption },
  async run(args) {
    const { server } = requireRole(loadConfig(args.config), "server");
    await refuseSecond(server.socket);
    const { path, taken, devices, before } = restoreCopy(server.state, new Date());
    print(`The registry is now ${path}, taken ${localTime(taken.toISOString())}: ${devices} devices.`);
    if (before !== undefined) print(`The one from before is ${before}.`);
    print(
      "Devices that were accepted later are refused: `walt device forget` on them. Revoke those again that were revoked later.",
    );
  },
});
