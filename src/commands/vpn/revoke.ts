/** `walt vpn revoke` */

import type { DeviceInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { command, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "../node/_choose.ts";
import { confirmNodes, yesOption } from "../node/_confirm.ts";
import { sideBySide } from "../node/_side-by-side.ts";
import { aboutRevocation, afterRevocation, lastRevoked } from "./_revoked.ts";

export default command({
  name: "walt vpn revoke",
  description:
    "Revoke the devices of nodes: end their connections, and refuse their keys from now on. It says what will happen, and asks. `walt vpn restore` undoes it",
  examples: [
    "walt vpn revoke vpn-010203",
    "walt vpn revoke 'school-*' --yes",
    "walt vpn revoke lab-3 --reenrol   # its board asks for access again, with a new key",
  ],
  args: {
    node: { ...chooseOptions.node, required: true },
    state: chooseOptions.state,
    reenrol: {
      type: "boolean",
      description:
        "Tell the boards to forget their keys and to ask for access again; also boards that are revoked already",
    },
    ...yesOption,
    ...serverOptions,
  },
  async run(args, every) {
    const reenrol = args.reenrol ?? false;
    await withServer(args, async (api) => {
      const [nodes, devices] = [await api.call(SERVER.nodes, {}), await api.call(SERVER.devices, {})];
      const active = devices.filter(({ state }) => state !== "revoked");
      const named = (name: string): DeviceInfo[] => active.filter(({ node }) => node === name);
      const revoked = lastRevoked(devices).filter(
        ({ node, reenrol: was }) => was !== "told" && named(node).length === 0,
      );
      const chosen = chooseNodes(reenrol ? [...nodes, ...revoked] : nodes, every("node"), args.state);
      const shown = [...active, ...revoked].filter(({ node }) => chosen.some(({ name }) => name === node));
      await confirmNodes(chosen, {
        about: aboutRevocation(shown, reenrol),
        question: "Revoke",
        yes: args.yes,
      });
      const passes: (string | null)[] = [];
      const done = sideBySide(chosen, async ({ name }) => {
        const { passesUntil } = await api.call(SERVER.revoke, { node: name, reenrol, by: operator() });
        passes.push(passesUntil);
        const told = reenrol ? "; its board is told to forget it, and asks for access with a new one" : "";
        return { text: `revoked: its tunnel is down and its key is refused${told}` };
      });
      await done.finally(() => passes.length > 0 && print(afterRevocation(passes, reenrol)));
    });
  },
});
