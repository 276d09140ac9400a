/** `walt server run` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { TABLES } from "../../config/schema.ts";
import { createLog } from "../../log.ts";
import { refuseUnmoved } from "../../server/install/earlier.ts";
import { earlierPlacesOf } from "../../server/install/earlier-places.ts";
import { command, configOption, untilStopped } from "../_command.ts";

export default command({
  name: "walt server run",
  description: "Run the server: SSH endpoint, walt-net with DHCP and boot files, registry, local API",
  examples: ["walt server run", "walt server run --config ./vpn.toml"],
  args: { ...configOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "server");
    const { state } = config.server;
    if (state === TABLES.server.state.default) refuseUnmoved(earlierPlacesOf("/").state, state);
    const { runServer } = await import("../../server/daemon.ts");
    await runServer(config, createLog(), untilStopped());
  },
});
