/**
 * How much memory the virtual machine gets: the memory of the board without what the board's own system
 * needs.
 */

import { BOARDS, type Board } from "../../boards.ts";
import { WaltError } from "../../errors.ts";
import { readText } from "../../linux/files.ts";

/** MiB that "auto" gives at least. */
export const LEAST = 256;
/** MiB that "auto" gives at most. */
export const MOST = 4096;
/** MiB; "auto" gives a multiple of this. */
const UNIT = 16;

/**
 * The memory of the virtual machine, in MiB.
 * @param setting the configuration's `device.vm.memory`.
 * @param total memory of the board in MiB, as its kernel counts it.
 */
export function vmMemory(setting: number | "auto", board: Board, total: number): number {
  if (setting !== "auto") return setting;
  const { ownMemory } = BOARDS[board];
  // A board that may be any machine may have other work to do, so that the node gets half of its memory.
  const left = ownMemory === undefined ? total / 2 : total - ownMemory;
  return Math.min(MOST, Math.max(LEAST, Math.floor(left / UNIT) * UNIT));
}

/**
 * The memory of this machine, in MiB: MemTotal of /proc/meminfo (proc_meminfo(5)).
 * @param meminfo content of that file; tests give others.
 * @throws WaltError when it has no MemTotal.
 */
export function totalMemory(meminfo: string = readText("/proc/meminfo")): number {
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  if (kib === undefined) throw new WaltError("/proc/meminfo has no MemTotal");
  return Math.floor(Number(kib) / 1024);
}
