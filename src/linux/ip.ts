/** ip(8) of iproute2: changes in one batch, and questions answered in JSON. */

import { messageOf, WaltError } from "../errors.ts";
import { run, runAny } from "./run.ts";

/**
 * Do several things with one ip(8), such as `link set br0 up`, one per line, in order. It stops at the first failure;
 * what the lines before it did stays.
 * @throws WaltError that names the line that failed and ip's reason.
 */
export async function ipBatch(lines: readonly string[]): Promise<void> {
  const broken = lines.find((line) => /[\r\n\0]/.test(line));
  if (broken !== undefined) throw new WaltError(`${JSON.stringify(broken)} is not one line for ip`);
  if (lines.length === 0) return;
  const { status, stderr } = await runAny(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  if (status === 0) return;
  // ip says the kernel's or its own reason, then "Command failed -:3".
  const number = Number(/Command failed -:(\d+)/.exec(stderr)?.[1] ?? Number.NaN);
  // Of a command that it does not know it does not say the line.
  const line = lines[number - 1] ?? (lines.length === 1 ? lines[0] : undefined);
  const reason = stderr
    .split("\n")
    .filter((text) => text.trim() !== "" && !text.startsWith("Command failed"))
    .join("; ");
  throw new WaltError(`ip ${line ?? "-batch -"} failed: ${reason || `exit ${status}`}`);
}

/**
 * What `ip -j <arguments>` prints, parsed; an empty array where it prints nothing. Its shape is for the caller to check.
 * @throws WaltError when ip fails or prints something else.
 */
export async function ipJson(args: readonly string[]): Promise<unknown> {
  const text = await run(["ip", "-j", ...args]);
  if (text.trim() === "") return [];
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new WaltError(`ip -j ${args.join(" ")} did not print JSON: ${messageOf(error)}`, { cause: error });
  }
}
