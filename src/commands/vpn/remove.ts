/** `walt vpn remove` */

import { SERVER } from "../../api/routes.ts";
import { plainText, table } from "../../text.ts";
import { command, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "../node/_choose.ts";
import { confirmNodes, yesOption } from "../node/_confirm.ts";
import { sideBySide } from "../node/_side-by-side.ts";
import { revokedNodes } from "./_revoked.ts";

export default command({
  name: "walt vpn remove",
  description:
    "Remove revoked devices from the registry, once their certificates have expired. It asks first. `walt vpn events` still tells of them",
  examples: ["walt vpn remove vpn-010203", "walt vpn remove all --yes"],
  args: { node: { ...chooseOptions.node, required: true }, ...yesOption, ...serverOptions },
  async run(args, every) {
    await withServer(args, async (api) => {
      const revoked = revokedNodes(await api.call(SERVER.devices, {}));
      const nodes = chooseNodes(revoked, every("node"), undefined, "no revoked device is the node");
      if (nodes.length === 0) return print("No device is revoked.");
      const rows = nodes.map((d) => [
        d.node,
        d.boardMac,
        plainText(d.model),
        d.code,
        minute(d.revokedAt ?? ""),
      ]);
      const about = `${table(["NODE", "BOARD", "MODEL", "CODE", "REVOKED"], rows)}
These devices are deleted from the registry. That cannot be undone.
A board that still has its key may ask for access again, like a new one.`;
      await confirmNodes(nodes, { about, question: "Remove", yes: args.yes });
      await sideBySide(nodes, async ({ node, fingerprint, code }) => {
        await api.call(SERVER.remove, { node, fingerprint, by: operator() });
        return { text: `removed (${code})` };
      });
    });
  },
});
