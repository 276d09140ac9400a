/** The processes of a machine, by the words that they were started with. */

import { basename } from "node:path";
import type { Role } from "../config/schema.ts";
import type { Machine } from "./machine.ts";

/** The first process whose words fit; undefined if there is none. */
export async function findProcess(
  machine: Machine,
  fits: (words: readonly string[]) => boolean,
): Promise<number | undefined> {
  const pids = (await machine.list("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    // A process that has ended meanwhile cannot be read.
    pids.map((pid) => machine.read(`/proc/${pid}/cmdline`).catch(() => undefined)),
  );
  const index = lines.findIndex((line) => fits(line?.split("\0") ?? []));
  return index < 0 ? undefined : Number(pids[index]);
}

/**
 * Whether these are the words of `walt server run` (or another role), or of `walt run` where that is the
 * role.
 */
export function runs(role: Role, [program = "", ...words]: readonly string[]): boolean {
  if (!basename(program).startsWith("walt")) return false;
  return words[0] === "run" || (words[0] === role && words[1] === "run");
}
