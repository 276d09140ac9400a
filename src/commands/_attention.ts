/** What an operator should look at, as far as the server knows. */

import { type ApiClient, MisfitError } from "../api/client.ts";
import type { NodeInfo, RotationInfo, Trouble } from "../api/messages.ts";
import { SERVER } from "../api/routes.ts";
import { duration } from "../text.ts";
import { inOrder } from "./_table.ts";
import { stateOf } from "./node/_why.ts";

/** Names that are shown of many. */
export const NAMES_SHOWN = 10;
/** The share of a tunnel's PINGs that are late or lost: from here on a user of the node notices it. */
const LOSSY = 0.05;

/** Something that an operator should look at. */
export interface Attention {
  readonly what: string;
  /** What to do about it. */
  readonly cure: string;
}

/** What needs attention now. @throws as `ApiClient.call` */
export async function askAttention(api: ApiClient, nodes: readonly NodeInfo[]): Promise<Attention[]> {
  const troubles = await ifKnown(api.call(SERVER.troubles, {}));
  return attentionOf(nodes, troubles, await ifKnown(api.call(SERVER.rotations, {})));
}

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
  const unwell = nodes
    .filter((node) => node.state === "up" && stateOf(node) !== "up")
    .sort((a, b) => inOrder(a.name, b.name));
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
    ...(unwell.length > NAMES_SHOWN
      ? [
          {
            what: `${unwell.length} nodes are not in order: ${some(unwell)}`,
            cure: "walt node show --state up",
          },
        ]
      : unwell.map((node) => ({
          what: `${node.name} is ${stateOf(node)}`,
          cure: `walt node show ${node.name}`,
        }))),
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
