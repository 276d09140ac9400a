/** Reads files with a bound on their size, and writes files so that they are never half written. */

import { randomBytes } from "node:crypto";
import {
  chmodSync,
  closeSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { codeOf, messageOf, WaltError } from "../errors.ts";

/** How a file is written. */
export interface WriteOptions {
  /** Permission bits; 0o644 unless given. */
  mode?: number;
  /** Fail with a WaltError when the file exists, instead of replacing it. */
  exclusive?: boolean;
}

/**
 * Write a file so that after a power cut either the old file or the new one is there, and never a part of it:
 * a temporary file is written, synced with fsync(2), and renamed, and then the folder is synced.
 * @throws WaltError naming the path and the reason.
 */
export function writeFileAtomic(path: string, data: string | Uint8Array, options: WriteOptions = {}): void {
  const mode = options.mode ?? 0o644;
  const folder = dirname(path);
  const temp = join(folder, `.${basename(path)}.${randomBytes(6).toString("hex")}`);
  let made = false;
  try {
    {
      using file = openFile(temp, "wx", 0o600);
      made = true;
      const bytes = typeof data === "string" ? Buffer.from(data) : data;
      for (let done = 0; done < bytes.length; ) done += writeSync(file.fd, bytes, done);
      fchmodSync(file.fd, mode);
      fsyncSync(file.fd);
    }
    if (options.exclusive) {
      made = !claim(temp, path);
      try {
        syncFolder(folder);
      } catch (error) {
        unlinkSync(path); // what could not be written is not there
        throw error;
      }
    } else {
      renameSync(temp, path);
      made = false;
      syncFolder(folder);
    }
  } catch (error) {
    if (codeOf(error) === "EEXIST") {
      throw new WaltError(`${path} exists already`, {
        hint: "No file was written. Move the existing file away, or choose another name.",
        cause: error,
      });
    }
    throw new WaltError(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    if (made) rmSync(temp, { force: true });
  }
}

/**
 * What a file system says that has no hard links: EPERM says link(2); FUSE says ENOSYS where its program has no
 * `link`, and others these.
 */
const NO_LINKS: readonly string[] = ["EPERM", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EMLINK", "EXDEV", "EINVAL"];

/**
 * Give a temporary file its final name without ever replacing another file. This is done with link(2), or on
 * a file system without hard links (FAT, many of FUSE) by making an empty file of that name, which rename(2) then
 * replaces.
 * @param link is link(2); tests give another one.
 * @returns false when the temporary name is still there, so that the caller must remove it.
 * @throws the system's error, EEXIST when the name is taken. The final name is then not there.
 */
export function claim(temp: string, path: string, link: typeof linkSync = linkSync): boolean {
  try {
    link(temp, path);
    return false;
  } catch (error) {
    if (!NO_LINKS.includes(codeOf(error) ?? "")) throw error;
    closeSync(openSync(path, "wx"));
    try {
      renameSync(temp, path);
    } catch (failure) {
      unlinkSync(path);
      throw failure;
    }
    return true;
  }
}

/** An open file for `using`, which closes it. Flags and mode are openSync's. @throws the system's error. */
export function openFile(path: string, flags: string, mode?: number): Disposable & { readonly fd: number } {
  const fd = openSync(path, flags, mode);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

/** What a file system says that cannot sync a folder: FUSE and network file systems. */
const NO_SYNC: readonly string[] = ["EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTSUP"];

/** fsync(2) of a folder, after which renames in it survive a power cut, if it can do that. @throws the system's error. */
export function syncFolder(folder: string): void {
  using file = openFile(folder, "r");
  try {
    fsyncSync(file.fd);
  } catch (error) {
    if (!NO_SYNC.includes(codeOf(error) ?? "")) throw error;
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
 * A new folder for this command alone, in TMPDIR.
 * @param prefix of its name, to which random characters are added
 * @throws WaltError when none can be made.
 */
export function temporaryFolder(prefix = "walt-"): string {
  try {
    return mkdtempSync(join(tmpdir(), prefix));
  } catch (error) {
    throw new WaltError(`cannot make a folder for temporary files: ${messageOf(error)}`, {
      hint: "Set TMPDIR to a folder in which you may write, on a file system with room.",
      cause: error,
    });
  }
}

/** Folders for little files, where TMPDIR does not do. The last two are in memory. */
const OTHERS: readonly string[] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

/**
 * As `temporaryFolder`, for sockets and little files: if TMPDIR is missing, full, read-only or has too long a name,
 * the folder is elsewhere.
 * @param use makes the files in a folder, and is called again with another one when that fails.
 * @param longest bytes that the folder's path may have, for sockets (unix(7)).
 * @throws WaltError with the reason of TMPDIR when none does.
 */
export function smallFolder<T>(use: (folder: string) => T, longest = 4096): T {
  let first: unknown;
  for (const place of new Set([tmpdir(), ...OTHERS])) {
    let folder: string | undefined;
    try {
      if (Buffer.byteLength(place) + SMALL_NAME > longest)
        throw new Error(`the path of ${place} is too long`);
      folder = mkdtempSync(join(place, "walt-"));
      return use(folder);
    } catch (error) {
      first ??= error;
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    }
  }
  throw new WaltError(`cannot make a folder for temporary files: ${messageOf(first)}`, {
    hint: "Set TMPDIR to a folder in which you may write, on a file system with room.",
    cause: first,
  });
}

/** Bytes of `/walt-` and the random characters of mkdtemp(3). */
const SMALL_NAME = 12;

/**
 * The text of a file, or undefined when it does not exist.
 * @param max bytes that it may have.
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
    // At most one byte more than `max` is read, enough to know that a file is too large. The size that
    // stat(2) tells is only a hint: the files of /proc have the size 0.
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

/** As `readTextIfAny`, for a file that must exist. @throws WaltError also when it does not. */
export function readText(path: string, max?: number): string {
  const text = readTextIfAny(path, max);
  if (text === undefined) throw new WaltError(`${path} does not exist`);
  return text;
}

/**
 * As `readTextIfAny`, for a file that people edit, perhaps on another system: without a byte order mark, with
 * LF at the end of each line, also of the last one, and without blanks before it.
 */
export function readEditedIfAny(path: string, max?: number): string | undefined {
  const text = readTextIfAny(path, max);
  return text === undefined ? undefined : asWritten(text);
}

/** As `readEditedIfAny`, for a file that must exist. @throws WaltError also when it does not. */
export function readEdited(path: string, max?: number): string {
  return asWritten(readText(path, max));
}

function asWritten(text: string): string {
  const lines = text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/);
  if (lines.at(-1)?.trim() === "") lines.pop();
  return lines.map((line) => `${line.trimEnd()}\n`).join("");
}

/**
 * Make a folder and the folders above it that do not exist.
 * @param mode permission bits of the folders that are made; the umask does not change them.
 * @throws the system's error.
 */
export function makeFolders(path: string, mode: number): void {
  const first = mkdirSync(path, { recursive: true, mode });
  if (first === undefined) return;
  for (let made = resolve(path); made.length >= first.length; made = dirname(made)) chmodSync(made, mode);
}
