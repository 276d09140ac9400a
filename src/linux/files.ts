/** Files that matter: written whole or not at all, and read with a bound. */

import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { codeOf, messageOf, WaltError } from "../errors.ts";

/** What to do about an existing file: put the new one in its place, or refuse. */
export interface WriteOptions {
  /** Permission bits; 0o644 unless told. */
  mode?: number;
  /** Fail with a WaltError when the file exists, instead of replacing it. */
  exclusive?: boolean;
}

/**
 * Write a file by temp, fsync, rename, fsync of the folder: after a power cut it is the old file or the new one.
 * @throws WaltError naming the path and the reason.
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, options: WriteOptions = {}): void {
  const mode = options.mode ?? 0o644;
  const folder = dirname(path);
  const temp = join(folder, `.${basename(path)}.${randomBytes(6).toString("hex")}`);
  let made = false;
  try {
    const fd = openSync(temp, "wx", 0o600);
    made = true;
    try {
      const bytes = typeof data === "string" ? Buffer.from(data) : data;
      for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done);
      fchmodSync(fd, mode);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    if (options.exclusive) {
      made = !claim(temp, path);
    } else {
      renameSync(temp, path);
      made = false;
    }
    syncFolder(folder);
  } catch (error) {
    if (codeOf(error) === "EEXIST") {
      throw new WaltError(`${path} exists already`, {
        hint: "Nothing was written. Move it away, or name another file.",
        cause: error,
      });
    }
    throw new WaltError(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    if (made) unlinkSync(temp);
  }
}

/**
 * Give a file its name without ever replacing another: link(2), or on a file system without links (FAT) a new empty file that
 * rename(2) may replace.
 * @returns whether the temporary name is gone already.
 * @throws the system's error, EEXIST when the name is taken.
 */
export function claim(temp: string, path: string): boolean {
  try {
    linkSync(temp, path);
    return false;
  } catch (error) {
    if (!["EPERM", "EOPNOTSUPP", "ENOTSUP"].includes(codeOf(error) ?? "")) throw error;
    closeSync(openSync(path, "wx"));
    renameSync(temp, path);
    return true;
  }
}

/** fsync(2) of a folder, so that a rename in it lasts; or of a file. */
export function syncFolder(folder: string): void {
  const fd = openSync(folder, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** fsync(2) of all files and folders below a folder, and of itself; links are not followed. */
export function syncTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) syncTree(path);
    else if (entry.isFile()) syncFolder(path);
  }
  syncFolder(folder);
}

/**
 * The text of a file of at most `max` bytes, or undefined where there is none.
 * @throws WaltError when it cannot be read or is larger.
 */
export function readTextIfAny(path: string, max = 1 << 20): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new WaltError(`cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw new WaltError(`cannot read ${path}: it is a directory`);
    // One byte more than there should be, and no more than that: the bound is for files that are not what they should be.
    let bytes = Buffer.alloc(Math.min(max, stat.size) + 1);
    let length = 0;
    for (;;) {
      if (length === bytes.length) bytes = Buffer.concat([bytes], Math.min(max + 1, 2 * length + 4096));
      const n = readSync(fd, bytes, length, bytes.length - length, null);
      if (n === 0) break;
      length += n;
      if (length > max) throw new WaltError(`${path} is larger than ${max} bytes`);
    }
    return bytes.toString("utf8", 0, length);
  } finally {
    closeSync(fd);
  }
}

/** Like `readTextIfAny`, for a file that must be there. */
export function readText(path: string, max?: number): string {
  const text = readTextIfAny(path, max);
  if (text === undefined) throw new WaltError(`${path} does not exist`);
  return text;
}

/**
 * Make a folder, and those above it, where there are none; what is made has these permission bits whatever the umask is.
 * @throws the system's error.
 */
export function makeFolders(path: string, mode: number): void {
  const first = mkdirSync(path, { recursive: true, mode });
  if (first === undefined) return;
  for (let made = resolve(path); made.length >= first.length; made = dirname(made)) chmodSync(made, mode);
}
