/** `walt config show` */

import { explainConfig, loadConfig } from "../../config/load.ts";
import { table } from "../../text.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";

export default command({
  name: "walt config show",
  description: "Show every key of the configuration, its value, and where the value comes from",
  examples: ["walt config show", "walt config show --config ./vpn.toml --json"],
  args: { ...configOption, ...jsonOption },
  async run(args) {
    const rows = explainConfig(loadConfig(args.config));
    if (args.json) print(JSON.stringify(rows, null, 2));
    else
      print(
        table(
          ["KEY", "VALUE", "FROM"],
          rows.map((r) => [r.key, r.value, r.source]),
        ),
      );
  },
});
