/** `walt node show` */

import type { NodeInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { WaltError } from "../../errors.ts";
import { duration, table } from "../../text.ts";
import { command, jsonOption, print } from "../_command.ts";
import { serverOptions, withServer } from "../_server.ts";
import { trafficRows } from "../_traffic.ts";

export default command({
  name: "walt node show",
  description:
    "Show the nodes: state, MAC and IP address, entrypoint. For one node also show the counters of its tunnel",
  examples: ["walt node show", "walt node show vpn-010203", "walt node show vpn-010203 --json"],
  args: {
    node: { type: "positional", required: false, description: "Show only this node, with its counters" },
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const all = await withServer(args, (api) => api.call(SERVER.nodes, {}));
    const nodes = args.node === undefined ? all : all.filter((n) => n.name === args.node);
    if (args.node !== undefined && nodes.length === 0) {
      throw new WaltError(`there is no node ${JSON.stringify(args.node)}`, {
        hint: "`walt node show` lists all nodes.",
      });
    }
    if (args.json) return print(JSON.stringify(nodes, null, 2));
    const [node] = nodes;
    if (node === undefined) return print("There are no nodes yet. Accept a device with `walt vpn monitor`.");
    if (args.node !== undefined) return print(detailsOf(node));
    print(
      table(
        ["NAME", "TYPE", "STATE", "MAC", "ADDRESS", "SINCE", "ENTRYPOINT", "RTT"],
        nodes.map((n) => [
          n.name,
          n.type,
          n.state,
          n.mac,
          n.address ?? "-",
          sinceOf(n),
          viaOf(n),
          n.rtt === null ? "-" : `${n.rtt.toFixed(1)} ms`,
        ]),
      ),
    );
  },
});

function sinceOf(n: NodeInfo): string {
  return n.since === null ? "-" : `${duration(Date.now() - Date.parse(n.since))} ago`;
}

function viaOf(n: NodeInfo): string {
  return n.via ?? (n.framing === "original" ? "(original framing)" : "-");
}

function detailsOf(n: NodeInfo): string {
  return table(
    ["WHAT", "VALUE"],
    [
      ["name", n.name],
      ["type", n.type],
      ["state", n.state],
      ["since", sinceOf(n)],
      ["MAC address", n.mac],
      ["address", n.address ?? "-"],
      ["entrypoint", viaOf(n)],
      ["MTU", n.mtu === null ? "-" : String(n.mtu)],
      ...(n.traffic === null ? [] : trafficRows(n.traffic, "node")),
    ],
  );
}
