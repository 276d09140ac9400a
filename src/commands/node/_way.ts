/** The way to a node in lines: each part with its round trip time and loss, and where it is slow or loses. */

import type { Pinged } from "../../api/ping.ts";
import { table } from "../../text.ts";

/** Round trip times of one part, as they are shown. */
export interface Part {
  readonly name: string;
  readonly rtts: readonly (number | null)[];
  readonly problem: string | null;
}

/** A segment between two points of the way. */
interface Segment {
  readonly name: string;
  /** ms that it adds. */
  readonly ms: number;
}

/** A way is slow where one segment adds so many ms, and so large a share of all. */
const SLOW = 50;
const SLOW_SHARE = 0.5;

export function medianOf(rtts: readonly (number | null)[]): number | undefined {
  const sorted = rtts.filter((ms) => ms !== null).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

const lostOf = (rtts: readonly (number | null)[]): number => rtts.filter((ms) => ms === null).length;

/**
 * @param server round trip times of the command to the server.
 * @param parts as the server measured them: the proxies in their order, the tunnel, the node.
 */
export function wayOf(server: readonly number[], parts: readonly Pinged[]): string {
  const shown: Part[] = [
    { name: "this command to the server", rtts: server, problem: null },
    ...parts.map(({ rtts, problem, ...part }) => ({ name: nameOf(part), rtts, problem })),
  ];
  const rows = shown.map(({ name, rtts, problem }) => {
    if (problem !== null) return [name, "-", "-", "-", problem];
    const all = rtts.filter((ms) => ms !== null);
    const ms = (value: number | undefined): string => (value === undefined ? "-" : `${value.toFixed(1)} ms`);
    const most = all.length === 0 ? undefined : Math.max(...all);
    return [name, ms(medianOf(rtts)), ms(most), `${lostOf(rtts)} of ${rtts.length}`, ""];
  });
  return [table(["FROM … TO", "MEDIAN", "LONGEST", "LOST", ""], rows), "", ...verdicts(parts)].join("\n");
}

function nameOf({ part, name }: Pick<Pinged, "part" | "name">): string {
  if (part === "proxy") return `board to proxy ${name}`;
  return part === "tunnel" ? `server to board, through ${name}` : `server to node ${name}`;
}

/** What is wrong with the way, or that nothing is, a sentence each. */
export function verdicts(parts: readonly Pinged[]): string[] {
  const found = [...lossOf(parts), ...slowOf(parts)];
  return found.length > 0 ? found : ["Nothing on the way is slow or lossy."];
}

/** The first part that loses explains those behind it. */
function lossOf(parts: readonly Pinged[]): string[] {
  // Without the tunnel nothing else could be measured.
  const tunnel = parts.find(({ part }) => part === "tunnel");
  if (tunnel !== undefined && tunnel.problem !== null)
    return [`The board does not answer: ${tunnel.problem}.`];
  const problem = parts.find((part) => part.problem !== null);
  const dead = parts.find(({ rtts }) => rtts.length > 0 && lostOf(rtts) === rtts.length);
  if (dead !== undefined) return [`Nothing comes back: ${nameOf(dead)}.`];
  const lossy = parts.find(({ rtts }) => lostOf(rtts) > 0);
  if (lossy !== undefined)
    return [`Answers are lost: ${nameOf(lossy)}, ${lostOf(lossy.rtts)} of ${lossy.rtts.length}.`];
  return problem === undefined ? [] : [`Not measured: ${nameOf(problem)}: ${problem.problem}.`];
}

function slowOf(parts: readonly Pinged[]): string[] {
  const segments = segmentsOf(parts);
  const all = segments.reduce((sum, { ms }) => sum + ms, 0);
  const slow = segments.find(({ ms }) => ms >= SLOW && ms >= SLOW_SHARE * all);
  if (slow === undefined) return [];
  return [`The slow part is ${slow.name}: ${slow.ms.toFixed(0)} of ${all.toFixed(0)} ms.`];
}

/** The way from the board: to each proxy, from the last one to the server, and beyond the board to the node. */
function segmentsOf(parts: readonly Pinged[]): Segment[] {
  const segments: Segment[] = [];
  let before = 0;
  let at = "the board";
  const add = (to: string, rtt: number | undefined): void => {
    if (rtt === undefined) return;
    segments.push({ name: `from ${at} to ${to}`, ms: Math.max(0, rtt - before) });
    before = rtt;
    at = to;
  };
  for (const { part, name, rtts } of parts) if (part === "proxy") add(`proxy ${name}`, medianOf(rtts));
  const tunnel = parts.find(({ part }) => part === "tunnel");
  add("the server", medianOf(tunnel?.rtts ?? []));
  const node = medianOf(parts.find(({ part }) => part === "node")?.rtts ?? []);
  if (node !== undefined && medianOf(tunnel?.rtts ?? []) !== undefined)
    segments.push({ name: "from the board to the node", ms: Math.max(0, node - before) });
  return segments;
}
