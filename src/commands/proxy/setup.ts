/** `walt proxy setup` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { setupProxy } from "../../proxy/setup.ts";
import { command, configOption } from "../_command.ts";
import { proxySettings } from "./_settings.ts";

export default command({
  name: "walt proxy setup",
  description: "Make this machine a proxy with its own sshd, as the script of `walt vpn setup-proxy` does",
  examples: ["walt proxy setup", "walt proxy setup --remove"],
  args: {
    remove: { type: "boolean", description: "Undo the set-up" },
    limits: {
      type: "boolean",
      description: "Limit the account's sessions and processes, and refuse revoked devices at once",
    },
    "allow-server": { type: "boolean", description: "Allow the set-up on the server itself" },
    ...configOption,
  },
  async run(args) {
    const settings = proxySettings(requireRole(loadConfig(args.config), "proxy"));
    process.exitCode = await setupProxy(settings, [
      ...(args.remove ? ["--remove"] : []),
      ...(args["allow-server"] ? ["--allow-server"] : []),
      ...(args.limits ? ["--limits"] : []),
    ]);
  },
});
