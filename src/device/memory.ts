/** How much memory the virtual machine gets: what the board has less what the board's own system needs. */

import { WaltError } from "../errors.ts";
import { readText } from "../linux/files.ts";
import type { Board } from "./machine.ts";

/**
 * MiB that a Raspberry Pi keeps of its own: of 905 in an emulated 3 B+ kernel and system take 76, the supervisor 61, the ssh
 * of a way 4 each, QEMU itself 62 (docs/sd-card.md tells how that was measured), and translated code up to 64 where KVM is
 * missing. The rest is for buffers and for the pages of programs, which are read from the card again when they do not fit.
 */
const KEPT = 320;
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
  // A machine that is not only a device has its other work to do: half of it is the node's.
  const left = board === "generic" ? total / 2 : total - KEPT;
  return Math.min(MOST, Math.max(LEAST, Math.floor(left / UNIT) * UNIT));
}

/** MiB of memory of this machine (proc(5), MemTotal). @throws WaltError when the kernel does not tell. */
export function totalMemory(meminfo: string = readText("/proc/meminfo")): number {
  const kib = /^MemTotal:\s+(\d+) kB$/m.exec(meminfo)?.[1];
  if (kib === undefined) throw new WaltError("/proc/meminfo does not tell MemTotal");
  return Math.floor(Number(kib) / 1024);
}
