/** `walt server run` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { createLog } from "../../log.ts";
import { command, configOption, untilStopped } from "../_command.ts";

export default command({
  name: "walt server run",
  description: "Run the server: SSH endpoint, walt-net with DHCP and boot files, registry, API",
  examples: ["walt server run", "walt server run --config ./walt.toml"],
  args: { ...configOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "server");
    const { runServer } = await import("../../server/daemon.ts");
    await runServer(config, createLog(), untilStopped());
  },
});
