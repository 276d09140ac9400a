/** `walt config check` */

import { loadConfig } from "../../config/load.ts";
import { WaltError } from "../../errors.ts";
import { command, configOption, print } from "../_command.ts";
import { lacksOf } from "./_lacks.ts";

export default command({
  name: "walt config check",
  description:
    "Check a vpn.toml: every key, and that nothing is missing which its role needs on this machine",
  examples: ["walt config check", "walt config check --config ./walt-device/vpn.toml"],
  args: { ...configOption },
  async run(args) {
    const config = loadConfig(args.config);
    if (config.file === undefined) {
      throw new WaltError("there is no vpn.toml", {
        hint: "`walt vpn setup-node` and `walt vpn setup-proxy --toml` write one, `walt server install` as well.",
      });
    }
    const lacks = lacksOf(config);
    if (lacks.length > 0) {
      const lines = lacks.map(({ what, cure }) => `- ${what}${cure === undefined ? "" : `. ${cure}`}`);
      throw new WaltError(`${config.file}: something is missing\n${lines.join("\n")}`);
    }
    print(`${config.file}: correct, role = ${JSON.stringify(config.role)}`);
  },
});
