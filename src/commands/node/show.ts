/** `walt node show` */

import { type ApiClient, MisfitError } from "../../api/client.ts";
import type { NodeDetails, NodeInfo, Trouble } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { WaltError } from "../../errors.ts";
import { command, localTime, print } from "../_command.ts";
import { eventsText } from "../_events.ts";
import { serverOptions, withServer } from "../_server.ts";
import { type Column, checkListArgs, factsText, listOptions, printList } from "../_table.ts";
import { trafficRows } from "../_traffic.ts";
import { lastRevoked } from "../vpn/_revoked.ts";
import { chooseNodes, chooseOptions, isPattern } from "./_choose.ts";
import { factsOf, sinceOf, viaOf } from "./_facts.ts";
import { stateOf } from "./_why.ts";

const COLUMNS: readonly Column<NodeInfo>[] = [
  { title: "NAME", cell: (n) => n.name },
  { title: "TYPE", cell: (n) => n.type, spare: 6 },
  { title: "STATE", cell: stateOf },
  { title: "MAC", cell: (n) => n.mac, spare: 4 },
  { title: "ADDRESS", cell: (n) => n.address ?? "-", spare: 1 },
  { title: "SINCE", cell: sinceOf },
  { title: "ENTRYPOINT", cell: viaOf, spare: 3 },
  { title: "RTT", cell: (n) => (n.rtt === null ? "-" : `${n.rtt.toFixed(1)} ms`), spare: 2 },
  { title: "NOTE", cell: (n) => n.note, isText: true, spare: 0 },
];

export default command({
  name: "walt node show",
  description:
    "Show the nodes: state, MAC and IP address, entrypoint, note. Of one node, named in full, show all that the server knows",
  examples: ["walt node show", "walt node show lab-3", "walt node show 'lab-*' --state down --json"],
  args: { ...chooseOptions, ...listOptions(COLUMNS), ...serverOptions },
  async run(args, every) {
    const typed = every("node");
    checkListArgs({ columns: COLUMNS }, args);
    await withServer(args, async (api) => {
      const all = await api.call(SERVER.nodes, {});
      const isAll = typed.length === 0 && args.state === undefined;
      const nodes = isAll ? all : await chosen(api, all, typed, args.state);
      const [only, ...others] = nodes;
      const [word, ...words] = typed;
      if (only !== undefined && others.length === 0 && word !== undefined && words.length === 0) {
        if (!isPattern(word)) {
          const details = await api.call(SERVER.node, { node: only.name });
          print(args.json ? JSON.stringify(details, null, 2) : detailsOf(details));
          return await warn(api);
        }
      }
      await warn(api);
      const empty =
        all.length === 0
          ? "There are no nodes yet. Accept a device with `walt vpn monitor`."
          : `None of these nodes is ${args.state}.`;
      printList({ columns: COLUMNS, by: (node) => node.name, empty }, nodes, args);
    });
  },
});

/** The nodes that were typed. @throws WaltError as `chooseNodes`; one that was revoked is said to be. */
async function chosen(
  api: ApiClient,
  all: readonly NodeInfo[],
  typed: readonly string[],
  state: string | undefined,
): Promise<NodeInfo[]> {
  try {
    return chooseNodes(all, typed, state);
  } catch (error) {
    const revoked = lastRevoked(await api.call(SERVER.devices, {}));
    const named = revoked.find(({ node }) => typed.includes(node) && !all.some(({ name }) => name === node));
    if (named === undefined) throw error;
    throw new WaltError(`${named.node} was revoked at ${localTime(named.revokedAt ?? "")}`, {
      hint: `\`walt vpn restore ${named.node}\` undoes it. \`walt vpn events ${named.node}\` tells who ordered it.`,
    });
  }
}

/** Say what harms walt-net: on standard error, as the output may be for a program. */
async function warn(api: ApiClient): Promise<void> {
  let troubles: Trouble[];
  try {
    troubles = await api.call(SERVER.troubles, {});
  } catch (error) {
    if (error instanceof MisfitError) return; // an older server tells of none
    throw error;
  }
  for (const { text, cure } of troubles) process.stderr.write(`Warning: ${text}\n${cure}\n`);
}

function detailsOf(n: NodeDetails): string {
  const all = factsText([...factsOf(n), ...(n.traffic === null ? [] : trafficRows(n.traffic, "node"))]);
  if (n.events.length === 0) return all;
  return `${all}\n\n${eventsText(n.events)}`;
}
