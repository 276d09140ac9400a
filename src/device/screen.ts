/**
 * What an installer reads on a board's screen, below its address: stage, node or code to compare, last error,
 * next try.
 */

import type { DeviceStatus } from "../api/device-status.ts";

/** Longest line, in characters: a few rows of the smallest screen. */
const LONGEST = 300;

/**
 * Lines of printable ASCII, each ended by a newline. An error may have words of a proxy or a server in it:
 * what is not printable ASCII becomes "?", so that nothing reaches the terminal's state.
 */
export function screenText(s: DeviceStatus): string {
  const lines = [`Stage    ${s.stage}: ${s.detail}`];
  if (s.node === null) lines.push(`Code     ${s.code}   (compare it with the one in walt vpn monitor)`);
  else lines.push(`Node     ${s.node}`);
  // Once all is up, the last error is an old one.
  if (s.lastError !== null && s.stage !== "watch") lines.push(`Error    ${s.lastError}`);
  // The board's script leaves this line, which changes every second, out of the log.
  if (s.nextTryIn !== null) lines.push(`Next try in ${s.nextTryIn} s`);
  return lines.map((line) => `${ascii(line).slice(0, LONGEST)}\n`).join("");
}

/** The one character besides ASCII's that our own texts have is the ellipsis. */
function ascii(text: string): string {
  return text.replaceAll("…", "...").replaceAll(/[^ -~]/gu, "?");
}
