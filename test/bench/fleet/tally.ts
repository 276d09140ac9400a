/** Who is up, as the server's log tells: when half, 95 % and all of a fleet were back after an event. */

/** Seconds from an event until so many were up. */
export interface Back {
  readonly half: number;
  readonly most: number;
  readonly all: number;
}

/** The share of a fleet that `most` is. */
const MOST = 0.95;

/** When each node came up last, ms since 1970, of those that are up by these lines of the log. */
export function upSince(log: string): Map<string, number> {
  const up = new Map<string, number>();
  for (const [, at = "", event, node = ""] of log.matchAll(
    /^(\S+Z) .*\bevent=tunnel-(up|down) node=(\S+)/gm,
  )) {
    if (event === "up") up.set(node, Date.parse(at));
    else up.delete(node);
  }
  return up;
}

/** How long after `from` (ms since 1970) these came up; NaN for what did not. */
export function backOf(up: ReadonlyMap<string, number>, fleet: number, from: number): Back {
  const times = [...up.values()].map((at) => (at - from) / 1000).sort((a, b) => a - b);
  const at = (share: number): number => times[Math.ceil(share * fleet) - 1] ?? Number.NaN;
  return { half: at(0.5), most: at(MOST), all: at(1) };
}
