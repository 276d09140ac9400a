/** `walt device run` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { createLog } from "../../log.ts";
import { command, configOption, untilStopped } from "../_command.ts";

export default command({
  name: "walt device run",
  description: "Run the device: network, credentials, tunnel, virtual machine",
  examples: ["walt device run", "walt device run --config ./walt-device/vpn.toml"],
  args: { ...configOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "device");
    const { runDevice } = await import("../../device/run.ts");
    await runDevice(config, createLog(), untilStopped());
  },
});
