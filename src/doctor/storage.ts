/** Checks of disks: room, whether they can be written, and errors that the kernel has counted. */

import { dirname } from "node:path";
import { size } from "../text.ts";
import { denied, fault, noted, OK, type Outcome, unknown } from "./check.ts";
import type { Machine } from "./machine.ts";

/** Bytes without which a database cannot be written safely, nor a card updated. */
const LEAST_FREE = 16 << 20;
/** Files (inodes) that must be free. */
const LEAST_FILES = 64;
/** Where ext4 counts the errors of each file system (Linux: Documentation/ABI/testing/sysfs-fs-ext4). */
const EXT4 = "/sys/fs/ext4";

/** Whether a folder's file system has room and can be written. The folder need not be there yet. */
export async function lookAtRoom(machine: Machine, folder: string): Promise<Outcome> {
  const at = await nearest(machine, folder);
  const mount = await mountOf(machine, at);
  const where = mount === undefined ? "" : `${mount.device} on ${mount.folder}, ${mount.kind}`;
  const code = await machine.access(at);
  if (code === "EROFS") {
    return fault(
      `${folder} cannot be written: its file system is read-only`,
      `${where} (${mount?.options ?? "EROFS"})`,
      "If the kernel has made it read-only after an error, `dmesg` says so: replace the disk or card. Otherwise mount it writable, or name another folder in vpn.toml.",
    );
  }
  if (code === "EACCES") throw denied(at);
  if (code !== undefined) return unknown(`${at} cannot be read and written (${code})`);
  const space = await machine.space(at);
  if (space.free < LEAST_FREE) {
    return fault(
      `the disk of ${folder} is full`,
      `${size(space.free)} of ${size(space.size)} are free; ${where}`,
      `Remove what is not needed, so that at least ${size(LEAST_FREE)} are free.`,
    );
  }
  if (space.files > 0 && space.freeFiles < LEAST_FILES) {
    return fault(
      `the disk of ${folder} can have no more files`,
      `${space.freeFiles} of ${space.files} files (inodes) are free; ${where}`,
      "Remove files that are not needed.",
    );
  }
  return noted(`${size(space.free)} free`);
}

/** Whether the kernel has counted errors of any ext4 file system. */
export async function lookAtDiskErrors(machine: Machine): Promise<Outcome> {
  const counted: string[] = [];
  for (const name of (await machine.list(EXT4)).toSorted()) {
    const text = await machine.read(`${EXT4}/${name}/errors_count`);
    const errors = Number(text?.trim() ?? "0");
    if (errors > 0) counted.push(`${name}: ${errors} errors (${EXT4}/${name}/errors_count)`);
  }
  if (counted.length === 0) return OK;
  return fault(
    "a disk or card has errors",
    counted.join("; "),
    "Replace the disk or card. `dmesg` and `fsck` tell more; what is on it may be damaged.",
  );
}

/** The folder itself, or the nearest one above it that exists. */
async function nearest(machine: Machine, folder: string): Promise<string> {
  let at = folder;
  while (at !== "/" && (await machine.stat(at)) === undefined) at = dirname(at);
  return at;
}

interface Mount {
  readonly device: string;
  readonly folder: string;
  /** Type of file system. */
  readonly kind: string;
  /** As mount(8) shows them. */
  readonly options: string;
}

/** The mount that a path is on (proc(5), /proc/self/mounts); the last one of the longest path counts. */
async function mountOf(machine: Machine, path: string): Promise<Mount | undefined> {
  let found: Mount | undefined;
  for (const line of ((await machine.read("/proc/self/mounts")) ?? "").split("\n")) {
    const [device = "", folder = "", kind = "", options = ""] = line.split(" ");
    if (folder === "" || !`${path}/`.startsWith(folder === "/" ? "/" : `${folder}/`)) continue;
    if (found === undefined || folder.length >= found.folder.length)
      found = { device, folder, kind, options };
  }
  return found;
}
