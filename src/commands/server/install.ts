/** `walt server install` */

import { thisMachine } from "../../install/machine.ts";
import { install } from "../../install/steps.ts";
import { planInstall } from "../../server/install/install.ts";
import { command, print } from "../_command.ts";
import { requireInstallable } from "../_install.ts";

export default command({
  name: "walt server install",
  description:
    "Install the server as a systemd service, or upgrade it: command, unit, configuration, folders, group",
  examples: ["sudo walt server install && sudo systemctl enable --now walt-vpn"],
  args: {},
  async run() {
    requireInstallable("walt server install");
    const plan = await planInstall(thisMachine(process.execPath));
    await install(plan, print);
    print(
      plan.starts
        ? "The service is running: systemctl status walt-vpn"
        : "Next: systemctl daemon-reload && systemctl enable --now walt-vpn",
    );
  },
});
