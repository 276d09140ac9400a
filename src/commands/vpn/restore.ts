/** `walt vpn restore` */

import { SERVER } from "../../api/routes.ts";
import { command, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "../node/_choose.ts";
import { confirmMany, yesOption } from "../node/_confirm.ts";
import { sideBySide } from "../node/_side-by-side.ts";
import { lastRevoked } from "./_revoked.ts";

export default command({
  name: "walt vpn restore",
  description:
    "Undo `walt vpn revoke`: accept the keys of these nodes' boards again, as long as the boards have not forgotten them",
  examples: ["walt vpn restore vpn-010203"],
  args: { node: { ...chooseOptions.node, required: true }, ...yesOption, ...serverOptions },
  async run(args, every) {
    const typed = every("node");
    await withServer(args, async (api) => {
      const revoked = lastRevoked(await api.call(SERVER.devices, {}));
      const nodes = chooseNodes(revoked, typed, undefined, "no revoked device is the node");
      if (nodes.length === 0) return print("No device is revoked.");
      await confirmMany(nodes, typed, "Restore", args.yes);
      await sideBySide(nodes, async ({ node, fingerprint }) => {
        await api.call(SERVER.restore, { node, fingerprint, by: operator() });
        return { text: "restored: its board connects again within a minute or so" };
      });
    });
  },
});
