/**
 * What a program needs to run: the shared libraries and the loader that its ELF file names.
 *
 * Format: System V ABI, chapters 4 and 5. Only 64-bit little-endian files are read, which is what arm64 and
 * x86-64 use. The file is not trusted: every offset in it is checked.
 */

import { WaltError } from "../../errors.ts";

/** What is read of an ELF file. */
export interface Elf {
  /** e_machine, the kind of processor: 183 is AArch64, 62 is x86-64. */
  machine: number;
  /** DT_NEEDED: names of shared libraries, such as `libc.so.6`. */
  needed: readonly string[];
  /** DT_RUNPATH and DT_RPATH: folders in which to look for libraries first. */
  runpath: readonly string[];
  /** PT_INTERP: path of the loader, such as `/lib/ld-linux-aarch64.so.1`. */
  interpreter: string | undefined;
}

/** Types of segments, and tags of entries in the dynamic section: elf.h. */
const PT = { LOAD: 1, DYNAMIC: 2, INTERP: 3 } as const;
const DT = { NULL: 0, NEEDED: 1, STRTAB: 5, RPATH: 15, RUNPATH: 29 } as const;
/** Bounds that are far above what real files have. */
const MAX_HEADERS = 1024;
const MAX_DYNAMIC = 4096;

interface Segment {
  type: number;
  offset: number;
  address: number;
  size: number;
}

/** Whether bytes begin like an ELF file and are at least as long as its header (64 bytes). */
export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 64 && Buffer.from(bytes.subarray(0, 4)).equals(Buffer.from("\x7fELF", "latin1"));
}

/**
 * Read an ELF file.
 * @param where name of the file for messages.
 * @throws WaltError when it is not a 64-bit little-endian ELF file, or when it is damaged.
 */
export function parseElf(bytes: Uint8Array, where: string): Elf {
  const bad = (what: string): WaltError => new WaltError(`${where}: ${what}`);
  if (!isElf(bytes)) throw bad("not an ELF file");
  if (bytes[4] !== 2 || bytes[5] !== 1) throw bad("not a 64-bit little-endian ELF file");
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = (offset: number): number => {
    if (offset + 8 > data.length) throw bad("the file is cut off");
    const value = data.readBigUInt64LE(offset);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(`the number ${value} is out of range`);
    return Number(value);
  };
  const text = (offset: number): string => {
    const end = offset < data.length ? data.indexOf(0, offset) : -1;
    if (end < 0 || end - offset > 4096) throw bad("a string does not end within 4096 bytes");
    return data.toString("latin1", offset, end);
  };

  const segments: Segment[] = [];
  const [table, entrySize, count] = [number(32), data.readUInt16LE(54), data.readUInt16LE(56)];
  if (count > MAX_HEADERS || entrySize < 56) throw bad("the program headers are damaged");
  for (let i = 0; i < count; i++) {
    const at = table + i * entrySize;
    if (at + 56 > data.length) throw bad("the file is cut off");
    const type = data.readUInt32LE(at);
    segments.push({ type, offset: number(at + 8), address: number(at + 16), size: number(at + 32) });
  }
  const fileOffset = (address: number): number => {
    const found = segments.find(
      (s) => s.type === PT.LOAD && address >= s.address && address < s.address + s.size,
    );
    if (found === undefined) throw bad(`the address ${address} is in no segment`);
    return address - found.address + found.offset;
  };

  const entries: { tag: number; value: number }[] = [];
  const dynamic = segments.find((s) => s.type === PT.DYNAMIC);
  for (let i = 0; dynamic !== undefined && i < MAX_DYNAMIC && (i + 1) * 16 <= dynamic.size; i++) {
    const at = dynamic.offset + i * 16;
    if (at + 16 > data.length) throw bad("the file is cut off");
    const tag = Number(data.readBigInt64LE(at));
    if (tag === DT.NULL) break;
    if (tag === DT.NEEDED || tag === DT.STRTAB || tag === DT.RPATH || tag === DT.RUNPATH)
      entries.push({ tag, value: number(at + 8) });
  }
  const strings = entries.find((entry) => entry.tag === DT.STRTAB);
  const named = (...tags: number[]): string[] => {
    const found = entries.filter((entry) => tags.includes(entry.tag));
    if (found.length === 0) return [];
    if (strings === undefined) throw bad("the string table is missing");
    const base = fileOffset(strings.value);
    return found.map((entry) => text(base + entry.value));
  };
  const interpreter = segments.find((s) => s.type === PT.INTERP);
  return {
    machine: data.readUInt16LE(18),
    needed: named(DT.NEEDED),
    runpath: named(DT.RUNPATH, DT.RPATH).flatMap((path) => path.split(":")),
    interpreter: interpreter === undefined ? undefined : text(interpreter.offset),
  };
}
