/** `walt config check` */

import { loadConfig } from "../../config/load.ts";
import { command, configOption, print } from "../_command.ts";

export default command({
  name: "walt config check",
  description: "Check a vpn.toml",
  examples: ["walt config check --config /etc/walt/vpn.toml"],
  args: { ...configOption },
  async run(args) {
    const config = loadConfig(args.config);
    print(
      config.file === undefined
        ? "there is no vpn.toml; every key has its default"
        : `${config.file}: correct, role = ${JSON.stringify(config.role ?? "")}`,
    );
  },
});
