/** What tests of images share: small ELF files, and a base that takes no Debian to make. */

import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BOOT_SIZE, layout, masterBootRecord } from "../../src/image/disk/disk.ts";
import { makeFat, writeFat } from "../../src/image/disk/fat.ts";
import { copySparse } from "../../src/image/disk/sparse.ts";

/** A folder of the test's own, removed when it is disposed of. */
export function folder(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), "walt-image-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** An ELF file with nothing in it but what it needs. */
export function elfFile(o: {
  needed?: string[];
  interpreter?: string;
  runpath?: string;
  machine?: number;
}): Buffer {
  const strings = ["", ...(o.needed ?? []), ...(o.runpath === undefined ? [] : [o.runpath])];
  const offsets: number[] = [];
  let table = "";
  for (const text of strings) {
    offsets.push(table.length);
    table += `${text}\0`;
  }
  const interpreter = Buffer.from(`${o.interpreter ?? ""}\0`);
  const [headers, dynamicAt] = [64, 64 + 3 * 56];
  const entries: [number, number][] = (o.needed ?? []).map((_, index) => [1, offsets[index + 1] ?? 0]);
  if (o.runpath !== undefined) entries.push([29, offsets.at(-1) ?? 0]);
  const stringsAt = dynamicAt + (entries.length + 2) * 16;
  entries.push([5, stringsAt], [0, 0]);
  const interpreterAt = stringsAt + table.length;
  const file = Buffer.alloc(interpreterAt + interpreter.length);
  file.write("\x7fELF", "latin1");
  file.set([2, 1, 1], 4);
  file.writeUInt16LE(o.machine ?? 183, 18);
  file.writeBigUInt64LE(BigInt(headers), 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(3, 56);
  const segment = (index: number, type: number, at: number, size: number): void => {
    const base = headers + index * 56;
    file.writeUInt32LE(type, base);
    for (const [offset, value] of [
      [8, at],
      [16, at],
      [32, size],
    ] as const)
      file.writeBigUInt64LE(BigInt(value), base + offset);
  };
  segment(0, 1, 0, file.length);
  segment(1, 2, dynamicAt, entries.length * 16);
  segment(2, o.interpreter === undefined ? 0 : 3, interpreterAt, interpreter.length);
  for (const [index, [tag, value]] of entries.entries()) {
    file.writeBigUInt64LE(BigInt(tag), dynamicAt + index * 16);
    file.writeBigUInt64LE(BigInt(value), dynamicAt + index * 16 + 8);
  }
  file.write(table, stringsAt, "latin1");
  interpreter.copy(file, interpreterAt);
  return file;
}

/** A base with a boot partition, and with noise for the other two. */
export async function smallBase(work: string): Promise<string> {
  const base = join(work, "base.img");
  const fat = join(work, "fat");
  await makeFat(fat, BOOT_SIZE);
  await writeFat(
    fat,
    0,
    { "config.txt": Buffer.from("kernel=kernel8.img\n"), "kernel8.img": Buffer.alloc(300_000, "k") },
    1e9,
  );
  const root = Buffer.alloc(2_500_000, "the root file system");
  const l = layout(root.length);
  const [fd, from] = [openSync(base, "w"), openSync(fat, "r")];
  try {
    ftruncateSync(fd, l.size);
    writeSync(fd, masterBootRecord(l), 0, 512, 0);
    await copySparse(from, fd, { at: l.boot.start });
    writeSync(fd, root, 0, root.length, l.root.start);
    writeSync(fd, Buffer.from("state"), 0, 5, l.state.start + 1024);
  } finally {
    closeSync(fd);
    closeSync(from);
  }
  return base;
}

/** A device's configuration. */
export const DEVICE = {
  "vpn.toml": Buffer.from('role = "device"\n'),
  known_hosts: Buffer.from("walt-server ssh-ed25519 AAAA\n"),
  enrolment_key: Buffer.from("-----BEGIN OPENSSH PRIVATE KEY-----\n"),
};

/** A file's bytes within [start, end). */
export function slice(path: string, start: number, end: number): Buffer {
  return readFileSync(path).subarray(start, end);
}

/** A file with this content. */
export function textFile(path: string, text: string): string {
  writeFileSync(path, text);
  return path;
}
