/**
 * The partitions of a card: their places in the image, and the master boot record that lists them.
 *
 * The record has the classic format with four entries of 16 bytes at offset 446: the board's boot ROM reads
 * no other.
 */

import { WaltError } from "../../errors.ts";

/** Bytes. */
const SECTOR = 512;
/** Bytes. */
export const MIB = 1 << 20;

/** The disk signature, "WALT" in ASCII, by which a base or an image is recognised. */
const SIGNATURE = 0x57414c54;

/** The place of a partition. */
export interface Partition {
  /** Bytes from the beginning of the image. */
  start: number;
  /** Bytes. */
  size: number;
}

/** The places of all partitions. */
export interface Layout {
  /** FAT32: firmware, kernel, configuration. */
  boot: Partition;
  /** squashfs. */
  root: Partition;
  /** ext4: the device key and the credentials. */
  state: Partition;
  /** Size of the whole image, in bytes. */
  size: number;
}

/** Bytes of the boot partition. Kernel and initramfs have 40 MB, and a FAT32 has 33 MB or more. */
export const BOOT_SIZE = 64 * MIB;
/** Bytes of the state partition, of which a device uses some kilobytes. */
export const STATE_SIZE = 16 * MIB;

/** Types of partitions in the record: 0x0c is FAT32 with LBA, 0x83 is Linux. */
const TYPES = { boot: 0x0c, root: 0x83, state: 0x83 } as const;
const NAMES = ["boot", "root", "state"] as const;

/**
 * The places of the partitions, one behind the other from 1 MiB on.
 * @param rootSize bytes of the squashfs.
 */
export function layout(rootSize: number): Layout {
  const boot = { start: MIB, size: BOOT_SIZE };
  const root = { start: boot.start + boot.size, size: Math.ceil(rootSize / MIB) * MIB };
  const state = { start: root.start + root.size, size: STATE_SIZE };
  return { boot, root, state, size: state.start + state.size };
}

/** The master boot record: the first 512 bytes of the image. */
export function masterBootRecord(l: Layout): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector.writeUInt32LE(SIGNATURE, 440);
  for (const [index, name] of NAMES.entries()) {
    const at = 446 + 16 * index;
    // The fields for cylinder, head and sector hold the value that means "see the LBA fields".
    sector.set([0, 0xfe, 0xff, 0xff, TYPES[name], 0xfe, 0xff, 0xff], at);
    sector.writeUInt32LE(l[name].start / SECTOR, at + 8);
    sector.writeUInt32LE(l[name].size / SECTOR, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/**
 * Read the master boot record of a base or an image.
 * @param sector the first 512 bytes.
 * @param size of the file, in bytes.
 * @param where name of the file for messages.
 * @throws WaltError when the file is neither a base nor an image of walt, or when it is cut off.
 */
export function parseMasterBootRecord(sector: Uint8Array, size: number, where: string): Layout {
  const bad = (why: string): WaltError =>
    new WaltError(`${where} is not an SD-card image of walt: ${why}`, {
      hint: "`walt image build` makes one.",
    });
  const data = Buffer.from(sector.buffer, sector.byteOffset, sector.byteLength);
  if (data.length < SECTOR || data.readUInt16LE(510) !== 0xaa55) throw bad("it has no partition table");
  if (data.readUInt32LE(440) !== SIGNATURE) throw bad("its disk signature is not that of walt");
  const [boot, root, state] = NAMES.map((name, index): Partition => {
    const at = 446 + 16 * index;
    if (data[at + 4] !== TYPES[name])
      throw bad(`partition ${index + 1} has the type ${data[at + 4]} instead of ${TYPES[name]}`);
    return { start: data.readUInt32LE(at + 8) * SECTOR, size: data.readUInt32LE(at + 12) * SECTOR };
  });
  if (boot === undefined || root === undefined || state === undefined) throw bad("a partition is missing");
  const ends = [MIB, boot.start + boot.size, root.start + root.size, state.start + state.size];
  if (boot.start !== MIB || root.start !== ends[1] || state.start !== ends[2] || size !== ends[3])
    throw bad("its partitions are at other places, or the file is cut off");
  return { boot, root, state, size };
}
