/** `walt server install` */

import { usageError } from "../../errors.ts";
import { thisMachine } from "../../install/machine.ts";
import { install } from "../../install/steps.ts";
import { planInstall } from "../../server/install/install.ts";
import { installPlugin, removePlugin } from "../../server/install/plugin.ts";
import { command, print } from "../_command.ts";
import { requireInstallable } from "../_install.ts";

export default command({
  name: "walt server install",
  description:
    "Install the server as a systemd service, or upgrade it: command, unit, configuration, folders, group",
  examples: [
    "sudo walt server install && sudo systemctl enable --now walt-vpn",
    "sudo walt server install --plugin",
  ],
  args: {
    plugin: { type: "boolean", description: "Also have WalT's own client run this program as `walt vpn`" },
    replace: { type: "boolean", description: "With --plugin: in place of the client's own `walt vpn`" },
    "remove-plugin": { type: "boolean", description: "Only take the plug-in out of WalT's client" },
  },
  async run(args) {
    if (args.replace && !args.plugin) throw usageError("--replace needs --plugin");
    if (args.plugin && args["remove-plugin"])
      throw usageError("--plugin and --remove-plugin exclude each other");
    requireInstallable("walt server install");
    const machine = thisMachine(process.execPath);
    if (args["remove-plugin"]) {
      const done = removePlugin(machine);
      return print(done.length === 0 ? "The plug-in is not there." : done.join("\n"));
    }
    const plan = await planInstall(machine);
    await install(plan, print);
    if (args.plugin) for (const line of installPlugin(machine, args.replace ?? false)) print(line);
    print(
      plan.starts
        ? "The service is running: systemctl status walt-vpn"
        : "Next: systemctl daemon-reload && systemctl enable --now walt-vpn",
    );
  },
});
