/** QEMU's log of what is written to a disk, write after write: what would be on it had the power gone at any of them. */

/** Bytes of a sector; QEMU's SD card writes one after the other. */
export const SECTOR = 512;

/** Sectors that were written so far, by the log's size: each has one more in the log. */
export function sectorsWritten(logSize: number): number {
  return Math.max(0, Math.floor((logSize / SECTOR - 1) / 2));
}

export interface Write {
  /** Where, bytes. */
  readonly offset: number;
  readonly data: Uint8Array;
}

/**
 * The writes in their order. Format: block/blklogwrites.c of QEMU, which is the kernel's dm-log-writes: a sector for the whole log,
 * then for each write a sector that begins with four little-endian u64 (sector, number of sectors, flags, bytes of data of
 * another kind) and the sectors themselves. What was cut off at the end is left out.
 */
export function parseWrites(log: Buffer): Write[] {
  const writes: Write[] = [];
  for (let at = SECTOR; at + SECTOR <= log.length; ) {
    const sector = Number(log.readBigUInt64LE(at));
    const length = Number(log.readBigUInt64LE(at + 8)) * SECTOR;
    at += SECTOR;
    if (at + length > log.length) break;
    if (length > 0) writes.push({ offset: sector * SECTOR, data: log.subarray(at, at + length) });
    at += length;
  }
  return writes;
}
