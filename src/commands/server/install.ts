/** `walt server install` */

import { loadConfig, requireRole } from "../../config/load.ts";
import { WaltError } from "../../errors.ts";
import { installServer } from "../../server/install.ts";
import { command, print } from "../_command.ts";

export default command({
  name: "walt server install",
  description: "Install the server as a systemd service: unit, configuration, folders, group",
  examples: ["sudo walt server install && sudo systemctl enable --now walt-server"],
  args: {},
  async run() {
    if (!Bun.main.startsWith("/$bunfs/")) {
      throw new WaltError("only the compiled binary can be installed", {
        hint: "Build it: bun run build; then run dist/walt-linux-x64 server install",
      });
    }
    if (process.getuid?.() !== 0)
      throw new WaltError("installing needs root", { hint: "sudo walt server install" });
    const { server } = requireRole(loadConfig(undefined), "server");
    for (const line of await installServer(process.execPath, server.group)) print(line);
    print("Next: systemctl daemon-reload && systemctl enable --now walt-server");
  },
});
