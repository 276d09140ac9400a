/** Runs ip(8) of iproute2: several changes in one batch, and queries that are answered in JSON. */

import { messageOf, WaltError } from "../errors.ts";
import { type RunOptions, run, runAny } from "./run.ts";

/** Milliseconds that ip(8) and bridge(8) may take: a board reads it from its card while everything else starts. */
export const IP_LONGEST = 15_000;

/** Characters of the reason that it prints, in the message of an error. */
const REASON_MOST = 1000;

/** How ip(8) is run. Its timeout is 15 s unless given. */
export type IpOptions = Pick<RunOptions, "timeout" | "signal">;

/**
 * Run several commands of ip(8), in order, in one process. It stops at the first failure; the changes of the
 * commands before it stay.
 * @param lines commands without the word `ip`, such as `link set br0 up`.
 * @throws WaltError naming the command that failed and ip's reason; the reason of `options.signal` when that was
 *   aborted.
 */
export async function ipBatch(lines: readonly string[], options: IpOptions = {}): Promise<void> {
  const broken = lines.find((line) => /[\r\n\0]/.test(line));
  if (broken !== undefined)
    throw new WaltError(`the command ${JSON.stringify(broken)} for ip has a line break or a zero byte`);
  if (lines.length === 0) return;
  const { status, stderr } = await runAny(["ip", "-batch", "-"], {
    ...{ timeout: IP_LONGEST, ...options },
    input: `${lines.join("\n")}\n`,
  });
  if (status === 0) return;
  // ip prints the reason, and then "Command failed -:3" with the number of the line.
  const number = Number(/Command failed -:(\d+)/.exec(stderr)?.[1] ?? Number.NaN);
  // It prints no number for a command that it does not know.
  const line = lines[number - 1] ?? (lines.length === 1 ? lines[0] : undefined);
  const reason = stderr
    .split("\n")
    .filter((text) => text.trim() !== "" && !text.startsWith("Command failed"))
    .join("; ")
    .slice(0, REASON_MOST);
  throw new WaltError(`ip ${line ?? "-batch -"} failed: ${reason || `exit ${status}`}`);
}

/**
 * The JSON that `ip -j <args>` prints, parsed; an empty array when it prints nothing. The caller must check
 * its shape.
 * @throws WaltError when ip fails, or when it prints something that is not JSON.
 */
export async function ipJson(args: readonly string[], options: IpOptions = {}): Promise<unknown> {
  const text = await run(["ip", "-j", ...args], { timeout: IP_LONGEST, ...options });
  if (text.trim() === "") return [];
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WaltError(`ip -j ${args.join(" ")} did not print JSON: ${messageOf(error)}`, { cause: error });
  }
}
