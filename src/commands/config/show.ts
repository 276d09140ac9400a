/** `walt config show` */

import { explainConfig, loadConfig } from "../../config/load.ts";
import type { Config } from "../../config/schema.ts";
import { withSettings } from "../../config/settings.ts";
import { stateFiles } from "../../device/files.ts";
import { readSettings } from "../../device/settings.ts";
import { table } from "../../text.ts";
import { command, configOption, jsonOption, print } from "../_command.ts";

/** A device's configuration with what was set from the lab. */
function asUsed(config: Config): Config {
  if (config.role !== "device") return config;
  const { settings } = stateFiles(config);
  const damaged = (why: string): void => {
    process.stderr.write(`what was set from the lab is damaged, and not used: ${why}\n`);
  };
  return withSettings(config, readSettings(settings, damaged), settings);
}

export default command({
  name: "walt config show",
  description: "Show every key of the configuration, its value, and where the value comes from",
  examples: ["walt config show", "walt config show --config ./vpn.toml --json"],
  args: { ...configOption, ...jsonOption },
  async run(args) {
    const rows = explainConfig(asUsed(loadConfig(args.config)));
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
