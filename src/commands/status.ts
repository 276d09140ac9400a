/** `walt status` */

import { SERVER } from "../api/routes.ts";
import { loadConfig } from "../config/load.ts";
import { WaltError } from "../errors.ts";
import { type Attention, askAttention, NAMES_SHOWN } from "./_attention.ts";
import { command, jsonOption, print } from "./_command.ts";
import { serverOptions, withServer } from "./_server.ts";
import { chooseServer } from "./_servers.ts";
import { factsText, inOrder } from "./_table.ts";

export default command({
  name: "walt status",
  description:
    "Show the server on one screen: the requests that wait, the nodes by state, and what needs attention",
  examples: ["walt status", "walt status --server ssh://alice@walt.lab.example", "walt status --json"],
  args: { ...serverOptions, ...jsonOption },
  async run(args) {
    const remote = chooseServer(args.server);
    const { role } = loadConfig(args.config);
    if (remote === undefined && (role === "device" || role === "proxy")) {
      const instead = role === "device" ? "walt device status" : "walt doctor";
      throw new WaltError(`this machine is a ${role}, and has no server`, {
        hint: `\`${instead}\` shows how it is. Name a server with --server, or in WALT_SERVER.`,
      });
    }
    await withServer(args, async (api) => {
      const nodes = await api.call(SERVER.nodes, {});
      const requests = await api.call(SERVER.requests, {});
      const attention = await askAttention(api, nodes);
      const codes = requests.map(({ code }) => code);
      const server = { version: api.version ?? "", address: remote?.address ?? "local" };
      const byState = (state: string): string[] =>
        nodes.flatMap((node) => (node.state === state ? [node.name] : [])).sort(inOrder);
      const all = { server, requests: codes, nodes: { up: byState("up"), down: byState("down") }, attention };
      print(args.json ? JSON.stringify(all, null, 2) : statusText(all));
    });
  },
});

/** What `statusText` shows. */
export interface Status {
  readonly server: { readonly version: string; readonly address: string };
  /** Short codes. */
  readonly requests: readonly string[];
  /** Names. */
  readonly nodes: { readonly up: readonly string[]; readonly down: readonly string[] };
  readonly attention: readonly Attention[];
}

/** The screen. @param width columns of the terminal, if it is one. */
export function statusText({ server, requests, nodes, attention }: Status, width?: number): string {
  const all = nodes.up.length + nodes.down.length;
  const waiting = requests.slice(0, NAMES_SHOWN).join(", ");
  const facts = factsText(
    [
      [
        "server",
        `walt ${server.version}, ${server.address === "local" ? "on this machine" : server.address}`,
      ],
      ["nodes", all === 0 ? "none" : `${all}: ${nodes.up.length} up, ${nodes.down.length} down`],
      [
        "requests",
        requests.length === 0 ? "none" : `${requests.length} to answer (walt vpn requests): ${waiting}`,
      ],
    ],
    ...(width === undefined ? [] : [width]),
  );
  const rows = attention.map(({ what, cure }) => `- ${what}\n  ${cure}`);
  return [
    facts,
    "",
    ...(rows.length === 0 ? ["Nothing needs attention."] : ["Needs attention:", ...rows]),
  ].join("\n");
}
