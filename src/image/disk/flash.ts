/** An image written straight to a card: only to what is one, and nobody uses; read back and compared. */

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

/** Larger "cards" are somebody's disk, bytes. */
export const LARGEST_CARD = 128e9;
const CHUNK = 4 << 20;
/** linux/fs.h, _IO(0x12, 97): forget what is cached of a block device, so that reading asks the device itself. */
const BLKFLSBUF = 0x1261;

/** A block device that may be a card. */
export interface Card {
  /** `/dev/sdb` */
  device: string;
  /** The maker's words, safe for a terminal. */
  model: string;
  /** Bytes. */
  size: number;
  /** It can be taken out: a card in a reader, or in a slot of the machine's own. */
  removable: boolean;
  /** Where it, or a part of it, is mounted. */
  mounts: string[];
}

/** Where the kernel tells of devices and mounts; parameters for tests. */
export interface KernelFiles {
  sys: string;
  mountinfo: string;
}

const KERNEL: KernelFiles = { sys: "/sys/block", mountinfo: "/proc/self/mountinfo" };

/**
 * What a device is.
 * @throws WaltError when it is not a whole block device.
 */
export function inspectCard(path: string, kernel: KernelFiles = KERNEL): Card {
  if (!existsSync(path))
    throw new WaltError(`${path} does not exist`, { hint: "`lsblk` lists what there is." });
  const device = realpathSync(path);
  if (!statSync(device).isBlockDevice()) throw usageError(`${path} is not a block device`);
  const folder = join(kernel.sys, basename(device));
  if (!existsSync(folder)) {
    throw usageError(`${path} is a part of a device`, "Name the whole one: /dev/sdb, not /dev/sdb1.");
  }
  const told = (name: string): string => (readTextIfAny(join(folder, name)) ?? "").trim();
  const parts = readdirSync(folder).filter((name) => existsSync(join(folder, name, "partition")));
  const numbers = [told("dev"), ...parts.map((part) => told(`${part}/dev`))];
  const model = [told("device/vendor"), told("device/model") || told("device/name")]
    .filter((t) => t !== "")
    .join(" ");
  return {
    device,
    model: safeText(model === "" ? "unknown" : model),
    size: Number(told("size")) * 512, // in sectors of 512 bytes, whatever the device's are
    // A slot of the machine's own is not removable, the card in it is; what is soldered there is of type MMC.
    removable: told("removable") === "1" || told("device/type") === "SD",
    mounts: mountsOf(numbers, readText(kernel.mountinfo, 4 << 20)),
  };
}

/** Mount points of devices by their numbers, `8:17` (proc_pid_mountinfo(5): the third field, and the fifth). */
function mountsOf(numbers: readonly string[], mountinfo: string): string[] {
  return mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => numbers.includes(fields[2] ?? ""))
    .map((fields) => safeText(fields[4] ?? ""));
}

/**
 * @param force what is not removable, or large, is taken for a card all the same; what is mounted never is.
 * @throws WaltError when nothing should be written to it.
 */
export function refuseCard(card: Card, force: boolean): void {
  const about = `${card.device} (${card.model}, ${(card.size / 1e9).toFixed(1)} GB)`;
  if (card.mounts.length > 0) {
    throw new WaltError(`${about} is mounted: ${card.mounts.join(", ")}`, {
      hint: `umount ${card.mounts.join(" ")}`,
    });
  }
  if (force) return;
  const hint = "If it is the card all the same, say --force.";
  if (!card.removable) throw new WaltError(`${about} is not removable: it is no SD card`, { hint });
  if (card.size > LARGEST_CARD)
    throw new WaltError(`${about} is larger than 128 GB: it is no SD card`, { hint });
}

/**
 * Write an image to a card, wait until it is there, read it back and compare.
 * @param progress how far each of the two is, from 0 to 1.
 * @throws WaltError when the card is in use, too small, broken, or not what was written.
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
      throw new WaltError(`${card.device} has ${card.size} bytes, and the image ${size}`, {
        hint: "Take a larger card.",
      });
    }
    // Exclusive: the kernel refuses a device of which anything is mounted, swapped to, or part of another device (open(2)).
    to = openSync(card.device, constants.O_RDWR | constants.O_EXCL);
    const chunk = Buffer.alloc(CHUNK);
    const back = Buffer.alloc(CHUNK);
    for (let done = 0; done < size; ) {
      const n = readSync(from, chunk, 0, CHUNK, done);
      for (let written = 0; written < n; )
        written += writeSync(to, chunk, written, n - written, done + written);
      done += n;
      // Not only at the end: progress would be a lie, told by the cache.
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
          `${card.device} does not hold what was written to it, between ${done} and ${done + n} bytes`,
          {
            hint: "The card is broken, or pretends to be larger than it is. Take another one.",
          },
        );
      }
      done += n;
      progress("verifying", done / size);
      await Bun.sleep(0);
    }
  } catch (error) {
    if (error instanceof WaltError) throw error;
    const busy = codeOf(error) === "EBUSY";
    throw new WaltError(`cannot write to ${card.device}: ${busy ? "something uses it" : messageOf(error)}`, {
      ...(busy ? { hint: "Unmount it, and end what else holds it (`lsblk` shows it)." } : {}),
      cause: error,
    });
  } finally {
    closeSync(from);
    if (to !== undefined) closeSync(to);
  }
}
