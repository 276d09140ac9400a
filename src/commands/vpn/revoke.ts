/** `walt vpn revoke` */

import type { DeviceInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { plainText, table } from "../../text.ts";
import { command, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions } from "../node/_choose.ts";
import { confirmNodes, yesOption } from "../node/_confirm.ts";
import { sideBySide } from "../node/_side-by-side.ts";
import { lastRevoked } from "./_revoked.ts";

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
      await confirmNodes(chosen, { about: aboutOf(shown, reenrol), question: "Revoke", yes: args.yes });
      const passes: (string | null)[] = [];
      const done = sideBySide(chosen, async ({ name }) => {
        const { passesUntil } = await api.call(SERVER.revoke, { node: name, reenrol, by: operator() });
        passes.push(passesUntil);
        const told = reenrol ? "; its board is told to forget it, and asks for access with a new one" : "";
        return { text: `revoked: its tunnel is down and its key is refused${told}` };
      });
      await done.finally(() => passes.length > 0 && print(afterwards(passes, reenrol)));
    });
  },
});

/** What will happen to these devices. */
function aboutOf(devices: readonly DeviceInfo[], reenrol: boolean): string {
  const rows = devices.map((d) => [d.node, d.state, d.boardMac, plainText(d.model), d.code]);
  const what = "The tunnels of these nodes end now, and the keys of their boards are refused from now on.";
  const then = reenrol
    ? "The boards are told to forget their keys, and ask for access with new ones. That cannot be undone."
    : "`walt vpn restore NODE` undoes it.";
  return `${table(["NODE", "STATE", "BOARD", "MODEL", "CODE"], rows)}\n${what}\n${then}`;
}

/** @param passes until when each certificate passes the proxies; null when it does not any more. */
function afterwards(passes: readonly (string | null)[], reenrol: boolean): string {
  const again = reenrol
    ? "A board that is connected hears of it within a minute, others when they connect: see `walt vpn requests`."
    : "To undo it: walt vpn restore NODE. To have a board ask again with a new key: walt vpn revoke NODE --reenrol.";
  const passesUntil = passes
    .filter((one) => one !== null)
    .sort()
    .at(-1);
  if (passesUntil === undefined) return again;
  return (
    `${again}\nA revoked device can still open connections to the proxies, which lead to a server that refuses it, until ${minute(passesUntil)} (UTC).\n` +
    "To keep it out there at once: make the proxies' script again with `walt vpn setup-proxy`, and run it with --limits on each proxy."
  );
}
