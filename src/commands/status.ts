/** `walt status` */

import { type ApiClient, MisfitError } from "../api/client.ts";
import type { NodeInfo, RotationInfo, Trouble } from "../api/messages.ts";
import { SERVER } from "../api/routes.ts";
import { loadConfig } from "../config/load.ts";
import { WaltError } from "../errors.ts";
import { duration } from "../text.ts";
import { command, jsonOption, print } from "./_command.ts";
import { serverOptions, withServer } from "./_server.ts";
import { chooseServer } from "./_servers.ts";
import { factsText, inOrder } from "./_table.ts";

/** Names that are shown of many. */
const NAMES_SHOWN = 10;
/** The share of a tunnel's PINGs that are late or lost: from here on a user of the node notices it. */
const LOSSY = 0.05;

/** Something that an operator should look at. */
export interface Attention {
  readonly what: string;
  /** What to do about it. */
  readonly cure: string;
}

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
      const attention = attentionOf(nodes, await ifKnown(troublesOf(api)), await ifKnown(rotationsOf(api)));
      const codes = requests.map(({ code }) => code);
      const server = { version: api.version ?? "", address: remote?.address ?? "local" };
      const byState = (state: string): string[] =>
        nodes.flatMap((node) => (node.state === state ? [node.name] : [])).sort(inOrder);
      const all = { server, requests: codes, nodes: { up: byState("up"), down: byState("down") }, attention };
      print(args.json ? JSON.stringify(all, null, 2) : statusText(all));
    });
  },
});

const troublesOf = (api: ApiClient): Promise<Trouble[]> => api.call(SERVER.troubles, {});
const rotationsOf = (api: ApiClient): Promise<RotationInfo[]> => api.call(SERVER.rotations, {});

/** What a server tells; nothing of an older one that does not know the request. */
async function ifKnown<T>(told: Promise<T[]>): Promise<T[]> {
  try {
    return await told;
  } catch (error) {
    if (error instanceof MisfitError) return [];
    throw error;
  }
}

/** What needs attention, the worst first. */
export function attentionOf(
  nodes: readonly NodeInfo[],
  troubles: readonly Trouble[],
  rotations: readonly RotationInfo[],
  now = Date.now(),
): Attention[] {
  const down = nodes.filter(({ state }) => state === "down").sort((a, b) => inOrder(a.name, b.name));
  const lossy = nodes.filter(({ loss }) => loss !== null && loss >= LOSSY);
  const sinceOf = ({ since }: NodeInfo): string =>
    since === null
      ? "has not been up since the server's start"
      : `is down since ${duration(now - Date.parse(since))}`;
  return [
    ...troubles.map(({ text, cure }) => ({ what: text, cure })),
    ...(down.length > NAMES_SHOWN
      ? [{ what: `${down.length} nodes are down: ${some(down)}`, cure: "walt node show --state down" }]
      : down.map((node) => ({ what: `${node.name} ${sinceOf(node)}`, cure: `walt node show ${node.name}` }))),
    ...lossy.map(({ name, loss }) => ({
      what: `the way to ${name} loses packets (${(100 * (loss ?? 0)).toFixed(0)} %)`,
      cure: `walt node ping ${name}`,
    })),
    ...rotations.flatMap(({ key, next }) =>
      next === null ? [] : [{ what: `a new ${key} key stands beside the old one`, cure: "walt vpn rotate" }],
    ),
  ];
}

function some(nodes: readonly { readonly name: string }[]): string {
  const names = nodes.slice(0, NAMES_SHOWN).map(({ name }) => name);
  return nodes.length > names.length ? `${names.join(", ")}, …` : names.join(", ");
}

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
