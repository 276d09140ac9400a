/** `walt node show` */

import { type ApiClient, MisfitError } from "../../api/client.ts";
import type { NodeDetails, NodeInfo, Trouble, WaltNode } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { duration, plainText, table } from "../../text.ts";
import { command, jsonOption, localTime, minute, print } from "../_command.ts";
import { EVENT_COLUMNS, eventRow } from "../_events.ts";
import { serverOptions, withServer } from "../_server.ts";
import { trafficRows } from "../_traffic.ts";
import { chooseNodes, chooseOptions, isPattern } from "./_choose.ts";
import { reportRows } from "./_report.ts";

export default command({
  name: "walt node show",
  description:
    "Show the nodes: state, MAC and IP address, entrypoint, note. Of one node, named in full, show all that the server knows",
  examples: ["walt node show", "walt node show lab-3", "walt node show 'lab-*' --state down --json"],
  args: { ...chooseOptions, ...serverOptions, ...jsonOption },
  async run(args, every) {
    const typed = every("node");
    await withServer(args, async (api) => {
      const all = await api.call(SERVER.nodes, {});
      const nodes =
        typed.length === 0 && args.state === undefined ? all : chooseNodes(all, typed, args.state);
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
      if (args.json) return print(JSON.stringify(nodes, null, 2));
      if (all.length === 0) return print("There are no nodes yet. Accept a device with `walt vpn monitor`.");
      if (only === undefined) return print(`None of these nodes is ${args.state}.`);
      print(listOf(nodes));
    });
  },
});

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

function listOf(nodes: readonly NodeInfo[]): string {
  return table(
    ["NAME", "TYPE", "STATE", "MAC", "ADDRESS", "SINCE", "ENTRYPOINT", "RTT", "NOTE"],
    nodes.map((n) => [
      n.name,
      n.type,
      n.state,
      n.mac,
      n.address ?? "-",
      sinceOf(n),
      viaOf(n),
      n.rtt === null ? "-" : `${n.rtt.toFixed(1)} ms`,
      n.note,
    ]),
  );
}

function sinceOf(n: NodeInfo): string {
  return n.since === null ? "-" : `${duration(Date.now() - Date.parse(n.since))} ago`;
}

function viaOf(n: NodeInfo): string {
  return n.via ?? (n.framing === "original" ? "(original framing)" : "-");
}

/** What WalT knows of it, beside what we know. */
function waltRows({ name, model, image, booted, address }: WaltNode): [string, string][] {
  return [
    ["WalT's name", name],
    ["WalT's model", model ?? "-"],
    ["WalT's image", image ?? "-"],
    ["WalT's state", booted === null ? "-" : booted ? "booted" : "not booted"],
    ["WalT's address", address ?? "-"],
  ];
}

function detailsOf(n: NodeDetails): string {
  const { device } = n;
  const certificate = device.certificateExpires;
  const all = table(
    ["WHAT", "VALUE"],
    [
      ["name", n.name],
      ["default name", n.defaultName],
      ["note", n.note === "" ? "-" : n.note],
      ["type", n.type],
      ["state", n.state],
      ["since", sinceOf(n)],
      ["MAC address", n.mac],
      ["address", n.address ?? "-"],
      ["board", device.boardMac],
      ["model", plainText(device.model)],
      ["serial number", plainText(device.serialNumber)],
      ["short code", device.code],
      ["key", device.fingerprint],
      ["accepted", `${localTime(device.acceptedAt)} by ${device.acceptedBy}`],
      ["certificate", certificate === "" ? "-" : `until ${minute(certificate)} (UTC)`],
      ["entrypoint", viaOf(n)],
      ["framing", n.framing ?? "-"],
      ["MTU", n.mtu === null ? "-" : String(n.mtu)],
      ["server", `walt ${n.serverVersion}`],
      ...(n.walt === undefined ? [] : waltRows(n.walt)),
      ...(n.report === null ? [] : reportRows(n.report.facts, Date.parse(n.report.receivedAt))),
      ...(n.traffic === null ? [] : trafficRows(n.traffic, "node")),
    ],
  );
  if (n.events.length === 0) return all;
  return `${all}\n\n${table(EVENT_COLUMNS, n.events.map(eventRow))}`;
}
