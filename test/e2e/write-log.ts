/** QEMU's log of what is written to a disk (block/blklogwrites.c), write after write. */

/** Bytes of a sector; QEMU's SD card writes one after the other. */
export const SECTOR = 512;

/** Sectors that were written so far, by the log's size: each has one more in the log. */
export function sectorsWritten(logSize: number): number {
  return Math.max(0, Math.floor((logSize / SECTOR - 1) / 2));
}
