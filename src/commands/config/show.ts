/** `walt config show` */

import { parse as parseToml } from "smol-toml";
import { explainConfig, loadConfig } from "../../config/load.ts";
import type { Config } from "../../config/schema.ts";
import { withSettings } from "../../config/settings.ts";
import { stateFiles } from "../../device/files.ts";
import { readSettings } from "../../device/settings.ts";
import { command, configOption } from "../_command.ts";
import { type List, listOptions, printList } from "../_table.ts";

/** A device's configuration with what was set from the lab. */
function asUsed(config: Config): Config {
  if (config.role !== "device") return config;
  const { settings } = stateFiles(config);
  const damaged = (why: string): void => {
    process.stderr.write(`what was set from the lab is damaged, and not used: ${why}\n`);
  };
  return withSettings(config, readSettings(settings, damaged), settings);
}

type Row = ReturnType<typeof explainConfig>[number];

const LIST: List<Row> = {
  columns: [
    { title: "KEY", cell: (row) => row.key },
    { title: "VALUE", cell: (row) => row.value, isText: true },
    { title: "FROM", cell: (row) => row.source },
  ],
  // A program gets the value itself, and not as it stands in TOML.
  json: (row) => ({ ...row, value: parseToml(`value = ${row.value}`)["value"] }),
  empty: "",
};

export default command({
  name: "walt config show",
  description: "Show every key of the configuration, its value, and where the value comes from",
  examples: ["walt config show", "walt config show --config ./vpn.toml --json"],
  args: { ...configOption, ...listOptions(LIST.columns) },
  async run(args) {
    const rows = explainConfig(asUsed(loadConfig(args.config)));
    printList(LIST, rows, args);
  },
});
