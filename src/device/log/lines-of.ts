/** Makes lines of the output of a serial console. */

import { LONGEST_LINE } from "./line-ring.ts";

/**
 * A function that takes the next bytes of a console, and calls `add` with each line that is complete. What
 * stands at its end is kept for the next call, at most LONGEST_LINE characters: a longer line becomes several.
 */
export function linesOf(add: (line: string) => void): (bytes: Uint8Array) => void {
  const decoder = new TextDecoder();
  let rest = "";
  return (bytes) => {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    // A serial console ends a line by CR and LF; a lone CR goes back to the line's beginning.
    for (const line of lines) add(line.replace(/\r+$/, ""));
    for (; rest.length > LONGEST_LINE; rest = rest.slice(LONGEST_LINE)) add(rest.slice(0, LONGEST_LINE));
  };
}
