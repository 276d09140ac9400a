/** `walt run` */

import { loadConfig } from "../config/load.ts";
import { WaltError } from "../errors.ts";
import { command, configOption } from "./_command.ts";

export default command({
  name: "walt run",
  description: "Run the role of the configuration: server, proxy or device",
  examples: ["walt run", "WALT_CONFIG=./vpn.toml walt run"],
  args: { ...configOption },
  async run(args, _, root) {
    const { role, file } = loadConfig(args.config);
    if (role === undefined) {
      throw new WaltError(`${file ?? "the configuration"} does not say a role`, {
        hint: 'Write role = "server", "proxy" or "device" at the top of vpn.toml, or use `walt server run`, `walt proxy run`, `walt device run`.',
      });
    }
    const { default: chosen } = await {
      server: () => import("./server/run.ts"),
      proxy: () => import("./proxy/run.ts"),
      device: () => import("./device/run.ts"),
    }[role]();
    await chosen.start(args.config === undefined ? [] : ["--config", args.config], root);
  },
});
