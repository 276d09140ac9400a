/**
 * The card's partitions: where they are in the image, and the master boot record that says so (the classic format with four
 * entries of 16 bytes at offset 446, which is all that the board's boot ROM reads).
 */

import { WaltError } from "../../errors.ts";

const SECTOR = 512;
export const MIB = 1 << 20;

/** Disk signature, "WALT": by which a base is known. */
const SIGNATURE = 0x57414c54;

export interface Partition {
  /** Bytes. */
  start: number;
  size: number;
}

/** Boot (FAT32), root (squashfs), state (ext4). */
export interface Layout {
  boot: Partition;
  root: Partition;
  state: Partition;
  /** Of the whole image, bytes. */
  size: number;
}

/** Kernel and initramfs are 40 MB; FAT32 has no less than 33 MB. */
export const BOOT_SIZE = 64 * MIB;
/** Some kilobytes are used. */
export const STATE_SIZE = 16 * MIB;

const TYPES = { boot: 0x0c, root: 0x83, state: 0x83 } as const;
const NAMES = ["boot", "root", "state"] as const;

/** @param rootSize bytes of the squashfs. */
export function layout(rootSize: number): Layout {
  const boot = { start: MIB, size: BOOT_SIZE };
  const root = { start: boot.start + boot.size, size: Math.ceil(rootSize / MIB) * MIB };
  const state = { start: root.start + root.size, size: STATE_SIZE };
  return { boot, root, state, size: state.start + state.size };
}

/** The first sector. */
export function masterBootRecord(l: Layout): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector.writeUInt32LE(SIGNATURE, 440);
  for (const [index, name] of NAMES.entries()) {
    const at = 446 + 16 * index;
    // Cylinders, heads and sectors: the value for "see the LBA fields".
    sector.set([0, 0xfe, 0xff, 0xff, TYPES[name], 0xfe, 0xff, 0xff], at);
    sector.writeUInt32LE(l[name].start / SECTOR, at + 8);
    sector.writeUInt32LE(l[name].size / SECTOR, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/**
 * The layout that a first sector tells.
 * @param size of the file, bytes.
 * @throws WaltError naming `where` when it is not one of ours.
 */
export function parseMasterBootRecord(sector: Uint8Array, size: number, where: string): Layout {
  const bad = (why: string): WaltError =>
    new WaltError(`${where} is not an SD-card image of walt: ${why}`, {
      hint: "`walt image build` makes one.",
    });
  const data = Buffer.from(sector.buffer, sector.byteOffset, sector.byteLength);
  if (data.length < SECTOR || data.readUInt16LE(510) !== 0xaa55) throw bad("it has no partition table");
  if (data.readUInt32LE(440) !== SIGNATURE) throw bad("its signature is another one");
  const [boot, root, state] = NAMES.map((name, index): Partition => {
    const at = 446 + 16 * index;
    if (data[at + 4] !== TYPES[name]) throw bad(`partition ${index + 1} is of another type`);
    return { start: data.readUInt32LE(at + 8) * SECTOR, size: data.readUInt32LE(at + 12) * SECTOR };
  });
  if (boot === undefined || root === undefined || state === undefined) throw bad("a partition is missing");
  const ends = [MIB, boot.start + boot.size, root.start + root.size, state.start + state.size];
  if (boot.start !== MIB || root.start !== ends[1] || state.start !== ends[2] || size !== ends[3])
    throw bad("its partitions are elsewhere, or the file is cut off");
  return { boot, root, state, size };
}
