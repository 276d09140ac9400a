/** What ip(8) of a machine shows. */

import { WaltError } from "../errors.ts";
import { parseJson } from "../parse.ts";
import { safeText } from "../text.ts";
import type { Machine } from "./machine.ts";

/**
 * The array that `ip -j` prints; an empty one if it prints nothing. The caller must check its elements.
 * @throws WaltError if ip fails, cannot be run, or prints something else.
 */
export async function ipJson(machine: Machine, args: readonly string[]): Promise<unknown[]> {
  const { status, stderr, value } = await ip(machine, args);
  if (status !== 0)
    throw new WaltError(`${commandOf(args)} failed (exit ${status}): ${safeText(stderr.trim())}`);
  return value;
}

/** As `ipJson`, for something that need not be there: an empty array if ip fails. */
export async function ipJsonIfAny(machine: Machine, args: readonly string[]): Promise<unknown[]> {
  return (await ip(machine, args)).value;
}

async function ip(
  machine: Machine,
  args: readonly string[],
): Promise<{ status: number; stderr: string; value: unknown[] }> {
  const ran = await machine.run(["ip", "-j", ...args]);
  if (ran === undefined) throw new WaltError(`${commandOf(args)} cannot be run, or takes too long`);
  const { status, stdout, stderr } = ran;
  if (status !== 0 || stdout.trim() === "") return { status, stderr, value: [] };
  const value = parseJson(stdout, commandOf(args), 65_536);
  if (!Array.isArray(value)) throw new WaltError(`${commandOf(args)} did not print an array`);
  return { status, stderr, value };
}

const commandOf = (args: readonly string[]): string => `ip -j ${args.join(" ")}`;
