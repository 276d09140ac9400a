/** Reads and writes files on the boot partition with mtools, which needs no mount and no root. */

import { rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tool, toolBytes } from "../process.ts";
import { WorkFolder } from "../work-folder.ts";

/** Make a new file with an empty FAT32 file system of `size` bytes; its content is the same every time. */
export async function makeFat(file: string, size: number): Promise<void> {
  rmSync(file, { force: true });
  const options = ["-F", "32", "-s", "1", "-n", "WALT-BOOT", "-i", "57414c54", "--invariant"];
  await tool(["mkfs.vfat", ...options, "-C", file, `${size / 1024}`]);
}

/**
 * Write files into the root folder of a FAT file system. Files of the same names are replaced.
 * @param offset where the file system begins in the image, in bytes.
 * @param files name → content.
 * @param epoch modification time of the files, in seconds since 1970.
 */
export async function writeFat(
  image: string,
  offset: number,
  files: Readonly<Record<string, Uint8Array>>,
  epoch: number,
): Promise<void> {
  using folder = new WorkFolder(join(tmpdir(), "walt-fat-"));
  const paths = Object.entries(files).map(([name, data]) => {
    const path = join(folder.path, name);
    writeFileSync(path, data, { mode: 0o600 }); // the enrolment key is among them
    utimesSync(path, epoch, epoch);
    return path;
  });
  await tool(["mcopy", "-i", `${image}@@${offset}`, "-m", "-o", "-Q", ...paths, "::"], { epoch });
}

/**
 * The content of a file in the root folder of a FAT file system.
 * @param offset where the file system begins in the image, in bytes.
 * @throws WaltError when there is no file of this name.
 */
export async function readFat(image: string, offset: number, name: string): Promise<Buffer> {
  return await toolBytes(["mtype", "-i", `${image}@@${offset}`, `::${name}`]);
}

/** Names of all files in the root folder of a FAT file system. @param offset where it begins, in bytes. */
export async function listFat(image: string, offset: number): Promise<string[]> {
  const text = await tool(["mdir", "-i", `${image}@@${offset}`, "-b", "::"]);
  return text.split("\n").flatMap((line) => /^::\/(.+)$/.exec(line)?.[1] ?? []);
}
