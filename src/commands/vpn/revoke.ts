/** `walt vpn revoke` */

import { SERVER } from "../../api/routes.ts";
import { WaltError } from "../../errors.ts";
import { confirm } from "../_ask.ts";
import { command, minute, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";
import { chooseNodes, chooseOptions, isPattern } from "../node/_choose.ts";
import { sideBySide } from "../node/_side-by-side.ts";

export default command({
  name: "walt vpn revoke",
  description:
    "Revoke the devices of nodes: end their connections, and refuse their keys from now on. For several nodes it asks first",
  examples: ["walt vpn revoke vpn-010203", "walt vpn revoke 'school-*' --yes"],
  args: {
    node: { ...chooseOptions.node, required: true },
    state: chooseOptions.state,
    yes: { type: "boolean", description: "Do not ask" },
    ...serverOptions,
  },
  async run(args, every) {
    const typed = every("node");
    await withServer(args, async (api) => {
      const nodes = chooseNodes(await api.call(SERVER.nodes, {}), typed, args.state);
      const isOne = typed.length === 1 && !typed.some(isPattern);
      const question = `Revoke these ${nodes.length} nodes: ${nodes.map(({ name }) => name).join(", ")}?`;
      if (!isOne && nodes.length > 0 && !args.yes && !(await confirm(question, "--yes")))
        throw new WaltError("the nodes were not confirmed; none was revoked");
      const passes: (string | null)[] = [];
      const revoked = sideBySide(nodes, async ({ name }) => {
        const { passesUntil } = await api.call(SERVER.revoke, { node: name, by: operator() });
        passes.push(passesUntil);
        return { text: "revoked: its tunnel is down and its key is refused" };
      });
      await revoked.finally(() => passes.length > 0 && print(afterwards(passes)));
    });
  },
});

/** @param passes until when each certificate passes the proxies; null when it does not any more. */
function afterwards(passes: readonly (string | null)[]): string {
  const again = "To enrol a device again, run `walt device forget` on it.";
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
