/**
 * Writes an image to an SD card, reads it back and compares.
 * It writes only to a device that looks like a card and is not in use, so that nobody's disk is overwritten.
 */

import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
  writeSync,
} from "node:fs";
import { basename, join } from "node:path";
import { codeOf, messageOf, usageError, WaltError } from "../../errors.ts";
import { readText, readTextIfAny } from "../../linux/files.ts";
import { at, libc } from "../../linux/libc.ts";
import { safeText } from "../../text.ts";

/** Bytes. A device that is larger is taken for a disk. */
export const LARGEST_CARD = 128e9;
/** Bytes that are written or read at a time. */
const CHUNK = 4 << 20;
/**
 * ioctl(2) of linux/fs.h, _IO(0x12, 97): drop a block device's cache, so that reading reads the device
 * itself.
 */
const BLKFLSBUF = 0x1261;

/** A block device that may be a card. */
export interface Card {
  /** Its path, with links resolved, such as `/dev/sdb`. */
  device: string;
  /** Names of its maker and model, safe to print on a terminal; `unknown` when the kernel knows none. */
  model: string;
  /** Bytes. */
  size: number;
  /** Whether it can be taken out: it is a card in a reader or in a built-in slot. */
  removable: boolean;
  /** Mount points of the device and of its partitions. */
  mounts: string[];
}

/** Paths at which the kernel describes devices and mounts; tests give others. */
export interface KernelFiles {
  /** The folder of block devices in sysfs. */
  sys: string;
  /** The list of mounts, as in proc_pid_mountinfo(5). */
  mountinfo: string;
}

const KERNEL: KernelFiles = { sys: "/sys/block", mountinfo: "/proc/self/mountinfo" };

/**
 * What the kernel knows of a device.
 * @param path of the device, or of a link to it.
 * @throws WaltError when it does not exist, or (usage) when it is not a block device or only a partition.
 */
export function inspectCard(path: string, kernel: KernelFiles = KERNEL): Card {
  if (!existsSync(path))
    throw new WaltError(`${path} does not exist`, { hint: "`lsblk` lists the devices of this machine." });
  const device = realpathSync(path);
  if (!statSync(device).isBlockDevice()) throw usageError(`${path} is not a block device`);
  const folder = join(kernel.sys, basename(device));
  if (!existsSync(folder)) {
    throw usageError(`${path} is a partition`, "Name the whole device: /dev/sdb, not /dev/sdb1.");
  }
  const attribute = (name: string): string => (readTextIfAny(join(folder, name)) ?? "").trim();
  const parts = readdirSync(folder).filter((name) => existsSync(join(folder, name, "partition")));
  const numbers = [attribute("dev"), ...parts.map((part) => attribute(`${part}/dev`))];
  const model = [attribute("device/vendor"), attribute("device/model") || attribute("device/name")]
    .filter((t) => t !== "")
    .join(" ");
  return {
    device,
    model: safeText(model === "" ? "unknown" : model),
    size: Number(attribute("size")) * 512, // sysfs counts in 512 bytes, whatever the device's sectors are
    // The kernel does not call a card in a built-in slot removable, but its type is SD. Soldered storage has
    // the type MMC.
    removable: attribute("removable") === "1" || attribute("device/type") === "SD",
    mounts: mountsOf(numbers, readText(kernel.mountinfo, 4 << 20)),
  };
}

/**
 * Mount points of devices, safe to print on a terminal.
 * @param numbers of the devices, such as `8:17`.
 * @param mountinfo the list of mounts (proc_pid_mountinfo(5)): the third field of a line is the device's
 *   number, the fifth the mount point.
 */
function mountsOf(numbers: readonly string[], mountinfo: string): string[] {
  return mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => numbers.includes(fields[2] ?? ""))
    .map((fields) => safeText(fields[4] ?? ""));
}

/**
 * Check that a device is a card which nobody uses.
 * @param force accept a device that is not removable, or larger than `LARGEST_CARD`. A mounted device is
 *   never accepted.
 * @throws WaltError when the device must not be written to.
 */
export function refuseCard(card: Card, force: boolean): void {
  const about = `${card.device} (${card.model}, ${(card.size / 1e9).toFixed(1)} GB)`;
  if (card.mounts.length > 0) {
    throw new WaltError(`${about} is mounted: ${card.mounts.join(", ")}`, {
      hint: `umount ${card.mounts.join(" ")}`,
    });
  }
  if (force) return;
  const hint = "If you are sure that it is the card, use --force.";
  if (!card.removable) throw new WaltError(`${about} is not removable, as an SD card is`, { hint });
  if (card.size > LARGEST_CARD)
    throw new WaltError(`${about} is larger than 128 GB, so that it may be a disk`, { hint });
}

/**
 * Write an image to a card, wait until the card has all of it, read it back and compare.
 * @param image path of the uncompressed image.
 * @param progress called with the current step and the fraction of it that is done, from 0 to 1.
 * @throws WaltError when the card is in use or too small, when writing fails, or when other data is read
 *   back.
 */
export async function flashCard(
  image: string,
  card: Card,
  progress: (what: "writing" | "verifying", fraction: number) => void,
): Promise<void> {
  const from = openSync(image, "r");
  let to: number | undefined;
  try {
    const { size } = fstatSync(from);
    if (size > card.size) {
      throw new WaltError(`the image has ${size} bytes, but ${card.device} has only ${card.size} bytes`, {
        hint: "Use a larger card.",
      });
    }
    // O_EXCL: the kernel refuses a device that is mounted, used as swap, or part of another device (open(2)).
    to = openSync(card.device, constants.O_RDWR | constants.O_EXCL);
    const chunk = Buffer.alloc(CHUNK);
    const back = Buffer.alloc(CHUNK);
    for (let done = 0; done < size; ) {
      const n = readSync(from, chunk, 0, CHUNK, done);
      for (let written = 0; written < n; )
        written += writeSync(to, chunk, written, n - written, done + written);
      done += n;
      // After each chunk, and not only at the end: otherwise the progress would show what is in the kernel's
      // cache.
      fsyncSync(to);
      progress("writing", done / size);
      await Bun.sleep(0);
    }
    libc.ioctl(to, BigInt(BLKFLSBUF), at(0));
    for (let done = 0; done < size; ) {
      const n = readSync(from, chunk, 0, CHUNK, done);
      const read = readSync(to, back, 0, n, done);
      if (read !== n || !chunk.subarray(0, n).equals(back.subarray(0, n))) {
        throw new WaltError(
          `${card.device} reads back other data than was written, between byte ${done} and byte ${done + n}`,
          { hint: "The card is broken, or is smaller than it claims to be. Use another card." },
        );
      }
      done += n;
      progress("verifying", done / size);
      await Bun.sleep(0);
    }
  } catch (error) {
    if (error instanceof WaltError) throw error;
    const busy = codeOf(error) === "EBUSY";
    throw new WaltError(`cannot write to ${card.device}: ${busy ? "it is in use" : messageOf(error)}`, {
      ...(busy ? { hint: "Unmount it, and end other uses of it, such as swap. `lsblk` shows them." } : {}),
      cause: error,
    });
  } finally {
    closeSync(from);
    if (to !== undefined) closeSync(to);
  }
}
