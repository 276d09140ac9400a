/** What an installer sees on the board's screen of the supervisor's status, as lines that any terminal can show. */

import type { DeviceStatus } from "../api/device-status.ts";
import { faultsOf } from "../api/diagnosis.ts";

/** Characters of a line. */
const MAX_LINE = 300;

/**
 * Stage, node or code, error, what the doctor found, and when it tries again. At most five lines; the last one, `Next try in N s`, is the only one that
 * changes by itself, which is why the script does not log it.
 */
export function screenLines(status: DeviceStatus): string[] {
  const { stage, detail, node, code, lastError, nextTryIn, doctor } = status;
  const [fault] = doctor === undefined ? [] : faultsOf(doctor);
  const lines = [`Stage    ${stage}: ${detail}`];
  if (node !== null) lines.push(`Node     ${node}`);
  else if (code !== null) lines.push(`Code     ${code}   (compare it with the one in walt vpn monitor)`);
  // Once all is up it is an old one.
  if (lastError !== null && stage !== "watch") lines.push(`Error    ${lastError}`);
  if (fault !== undefined && stage !== "watch") lines.push(`Doctor   ${fault.what}`);
  if (nextTryIn !== null) lines.push(`Next try in ${nextTryIn} s`);
  return lines.map(asciiLine);
}

/** A text as one line of printable ASCII, cut to `MAX_LINE`: an error may have words of a proxy or a server in it. */
export function asciiLine(text: string): string {
  return text
    .replaceAll("…", "...")
    .replace(/[^ -~]/g, "?")
    .slice(0, MAX_LINE);
}
