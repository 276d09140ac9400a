/** `walt node reboot` */

import { SERVER } from "../../api/routes.ts";
import { parseReboot } from "../../control/reboot.ts";
import { usageError } from "../../errors.ts";
import { command, untilStopped } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "./_choose.ts";
import { confirmMany, yesOption } from "./_confirm.ts";
import { askOrder } from "./_orders.ts";
import { outcomeOf } from "./_reboot-outcome.ts";
import { sideBySide } from "./_side-by-side.ts";

export default command({
  name: "walt node reboot",
  description:
    "Reboot nodes: ask the guest to shut down, and start it again. A guest that does not react needs --hard",
  examples: ["walt node reboot lab-3", "walt node reboot 'lab-*' --hard", "walt node reboot lab-3 --board"],
  args: {
    ...chooseOptions,
    hard: { type: "boolean", description: "End the virtual machine at once, as if its power was cut" },
    board: { type: "boolean", description: "Reboot the whole board" },
    ...yesOption,
    ...serverOptions,
  },
  async run(args, every) {
    if (args.hard && args.board) throw usageError("--hard and --board exclude each other");
    const what = args.board ? "board" : args.hard ? "vm" : "guest";
    const order = { order: "reboot" as const, what, by: operator() } as const;
    const signal = untilStopped();
    await withServer(args, async (api) => {
      const nodes = chooseNodes(await api.call(SERVER.nodes, {}), every("node"), args.state);
      await confirmMany(nodes, every("node"), args.board ? "Reboot the boards of" : "Reboot", args.yes);
      await sideBySide(nodes, async ({ name }) => {
        return outcomeOf(parseReboot(await askOrder(api, name, order, signal)));
      });
    });
  },
});
