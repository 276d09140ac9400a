/** The messages of `walt node ping`, each as the function that parses it. */

import { parseRtts, ROUNDS_MAX } from "../control/hops.ts";
import type { Fields } from "../parse.ts";

/** Parts of the way from the server to a node. */
const PARTS = ["proxy", "tunnel", "node"] as const;
/** Characters of the words that say why a part could not be measured. */
export const PROBLEM_MAX = 500;

export function parsePingWanted(f: Fields) {
  return { node: f.words("node"), rounds: f.integer("rounds", 1, ROUNDS_MAX) };
}

/** Round trip times over one part of the way. */
export type Pinged = ReturnType<typeof parsePinged>;

export function parsePinged(f: Fields) {
  return {
    /**
     * `proxy`: from the board to a proxy, and the proxies before it. `tunnel`: from the server to the board.
     * `node`: from the server to the node.
     */
    part: f.choice("part", PARTS),
    /** What answers: the proxy's or the node's address, or the entrypoint of the tunnel. */
    name: f.words("name", 300),
    /** ms; null for one whose answer did not come. */
    rtts: parseRtts(f),
    /** Why it could not be measured, in words. */
    problem: f.orNull("problem", (key) => f.words(key, PROBLEM_MAX)),
  };
}
