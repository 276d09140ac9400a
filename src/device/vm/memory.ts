/** How much memory the virtual machine gets: what the board has less what the board's own system needs. */

import { BOARDS, type Board } from "../../boards.ts";
import { WaltError } from "../../errors.ts";
import { readText } from "../../linux/files.ts";

/** What "auto" gives at least and at most, MiB. */
export const LEAST = 256;
export const MOST = 4096;
/** "auto" gives whole multiples of so many MiB. */
const UNIT = 16;

/**
 * MiB of memory for the virtual machine.
 * @param setting `device.vm.memory`.
 * @param total MiB of memory that the machine has, as its kernel counts it.
 */
export function vmMemory(setting: number | "auto", board: Board, total: number): number {
  if (setting !== "auto") return setting;
  const { ownMemory } = BOARDS[board];
  // A machine that is not only a device has other work to do: half of its memory is the node's.
  const left = ownMemory === undefined ? total / 2 : total - ownMemory;
  return Math.min(MOST, Math.max(LEAST, Math.floor(left / UNIT) * UNIT));
}

/** MiB of memory of this machine (proc(5), MemTotal). @throws WaltError when the kernel does not tell. */
export function totalMemory(meminfo: string = readText("/proc/meminfo")): number {
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  if (kib === undefined) throw new WaltError("/proc/meminfo does not tell MemTotal");
  return Math.floor(Number(kib) / 1024);
}
