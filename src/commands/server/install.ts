/** `walt server install` */

import { WaltError } from "../../errors.ts";
import { install, planInstall } from "../../server/install/install.ts";
import { thisMachine } from "../../server/install/machine.ts";
import { command, print } from "../_command.ts";

export default command({
  name: "walt server install",
  description:
    "Install the server as a systemd service, or upgrade it: command, unit, configuration, folders, group",
  examples: ["sudo walt server install && sudo systemctl enable --now walt-vpn"],
  args: {},
  async run() {
    if (!Bun.main.startsWith("/$bunfs/")) {
      throw new WaltError("only the compiled binary can be installed", {
        hint: "Run `bun run build`, then `dist/walt-linux-x64 server install`.",
      });
    }
    if (process.getuid?.() !== 0)
      throw new WaltError("installing needs root", { hint: "sudo walt server install" });
    const plan = await planInstall(thisMachine(process.execPath));
    await install(plan, print);
    print(
      plan.starts
        ? "The service is running: systemctl status walt-vpn"
        : "Next: systemctl daemon-reload && systemctl enable --now walt-vpn",
    );
  },
});
