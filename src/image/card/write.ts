/**
 * Makes an image from a base: a copy of the base with a device's configuration on its boot partition.
 * It takes seconds and needs no root.
 */

import { createHash } from "node:crypto";
import {
  existsSync,
  fstatSync,
  fsyncSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { codeOf, messageOf, usageError, WaltError } from "../../errors.ts";
import { claim, openFile, syncFolder } from "../../linux/files.ts";
import { blockMap, mappedRanges } from "../disk/bmap.ts";
import { type Layout, parseMasterBootRecord } from "../disk/disk.ts";
import { listFat, readFat, writeFat } from "../disk/fat.ts";
import { copySparse, type Progress, survey } from "../disk/sparse.ts";
import { needTools, WRITE_TOOLS } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";

/** The files of a device's configuration on the boot partition: name → whether the file must be there. */
export const DEVICE_FILES: Readonly<Record<string, boolean>> = {
  "vpn.toml": true,
  known_hosts: true,
  enrolment_key: true,
  enrolment_token: false,
  "os.txt": false,
  authorized_keys: false,
};
/** Bytes. */
const MAX_DEVICE_FILE = 1 << 20;

/**
 * Modification time of these files, in seconds since 1970: 2020-01-01. It is constant so that the same
 * configuration makes the same image, byte for byte.
 */
const FILE_TIME = 1_577_836_800;

/**
 * zstd's level of compression, which is its default: a higher one gains little, as most of the image is
 * compressed already.
 */
const LEVEL = 3;
/**
 * Bytes that are compressed at a time into one zstd frame. zstd(1) unpacks consecutive frames as one file
 * (RFC 8878, 3).
 */
const FRAME = 8 << 20;

/** What image to write, and where. */
export interface WriteImageOptions {
  /** Path of the base: raw, or compressed with zstd. */
  base: string;
  /**
   * The device's configuration: name → content. The names are those of `DEVICE_FILES`. The content of
   * `os.txt` is made by os-settings.ts, that of `authorized_keys` by login-keys.ts.
   */
  deviceFiles: Readonly<Record<string, Uint8Array>>;
  /**
   * Path of the image. With `compress`, `.zst` is appended. Files with `.sha256` and `.bmap` are written
   * beside it.
   */
  output: string;
  /** Whether to compress the image with zstd. */
  compress: boolean;
  /** Whether to replace existing files. */
  force: boolean;
  /** Called with the current step and the fraction of it that is done, from 0 to 1. */
  progress?: (what: "copying" | "checking" | "compressing", fraction: number) => void;
}

/** What was written. */
export interface WrittenImage {
  /** Path of the image. */
  image: string;
  /** Path of the file with its checksum, as sha256sum(1) reads it. */
  checksum: string;
  /** Path of the block map, as bmaptool(1) reads it. */
  blockMap: string;
  /** SHA-256 of the file `image`, in hex. */
  sha256: string;
  /** Size of the uncompressed image, in bytes. */
  size: number;
}

/**
 * Write an image, its checksum and its block map, and check that the configuration reads back from the image.
 * The files get their names only when all of them are complete.
 * @throws WaltError when a file exists already (without `force`), when the base is not one, when the
 *   configuration lacks a file or has an unknown one, or when the disk is full.
 */
export async function writeImage(o: WriteImageOptions): Promise<WrittenImage> {
  needTools(WRITE_TOOLS);
  checkDeviceFiles(o.deviceFiles);
  const output = resolve(o.output);
  const image = o.compress ? `${output}.zst` : output;
  const written = { image, checksum: `${image}.sha256`, blockMap: `${output}.bmap` };
  for (const path of Object.values(written)) if (!o.force) refuseExisting(path);
  try {
    using folder = new WorkFolder(join(dirname(output), `.${basename(output)}.`));
    const work = folder.path;
    const raw = join(work, "raw");
    const base = await uncompressed(o.base, join(work, "base"));
    const layout = await copyBase(base, o.base, raw, (f) => o.progress?.("copying", f));
    if (base !== o.base) rmSync(base);
    await addDeviceFiles(raw, layout, o.deviceFiles);
    const seen = await survey(raw, await mappedRanges(raw, layout), (f) => o.progress?.("checking", f));
    const done = { path: raw, sha256: seen.sha256 };
    if (o.compress) {
      done.path = join(work, "compressed");
      done.sha256 = await compress(raw, done.path, (f) => o.progress?.("compressing", f));
    }
    const [sums, map] = [join(work, "sha256"), join(work, "bmap")];
    writeFileSync(sums, `${done.sha256}  ${basename(image)}\n`);
    writeFileSync(map, blockMap(seen));
    // The image gets its name last: when it is there, the two other files are there, too.
    putAll(
      [
        [map, written.blockMap],
        [sums, written.checksum],
        [done.path, image],
      ],
      o.force,
    );
    return { ...written, sha256: done.sha256, size: seen.size };
  } catch (error) {
    if (error instanceof WaltError) throw error;
    const full = codeOf(error) === "ENOSPC" || codeOf(error) === "EDQUOT";
    throw new WaltError(`cannot write ${image}: ${full ? "the disk is full" : messageOf(error)}`, {
      ...(full
        ? {
            hint: "No files were left behind. Writing an image needs 160 MB, and with --compress 260 MB.",
          }
        : {}),
      cause: error,
    });
  }
}

function checkDeviceFiles(files: Readonly<Record<string, Uint8Array>>): void {
  for (const [name, data] of Object.entries(files)) {
    if (!Object.hasOwn(DEVICE_FILES, name))
      throw usageError(`${name} is not a file of a device's configuration`);
    if (data.length === 0 || data.length > MAX_DEVICE_FILE)
      throw new WaltError(`${name} has ${data.length} bytes instead of 1 to ${MAX_DEVICE_FILE}`);
  }
  const missing = Object.keys(DEVICE_FILES).filter(
    (name) => DEVICE_FILES[name] && !Object.hasOwn(files, name),
  );
  if (missing.length > 0) throw new WaltError(`the device's configuration lacks ${missing.join(", ")}`);
}

/** @throws WaltError when a file exists. */
function refuseExisting(path: string): void {
  if (!existsSync(path)) return;
  throw new WaltError(`${path} exists already`, {
    hint: "No files were written. Replace the existing file with --force, or choose another name with -o.",
  });
}

/** The first bytes of a zstd file (RFC 8878, 3.1.1). */
const ZSTD = Buffer.from("28b52ffd", "hex");
/** Bytes; far more than a base has. A damaged compressed base must not fill the disk. */
const MAX_BASE = 1 << 30;

/**
 * The path at which the uncompressed base is: `base` when it is not compressed, otherwise `to`, after
 * unpacking it there.
 * @throws WaltError when it cannot be read or unpacked.
 */
async function uncompressed(base: string, to: string): Promise<string> {
  const magic = Buffer.alloc(ZSTD.length);
  try {
    using file = openFile(base, "r");
    readSync(file.fd, magic, 0, magic.length, 0);
  } catch (error) {
    throw new WaltError(`cannot read the base: ${messageOf(error)}`, { cause: error });
  }
  if (!magic.equals(ZSTD)) return base;
  using file = openFile(to, "wx", 0o600);
  try {
    let size = 0;
    for await (const chunk of Bun.file(base).stream().pipeThrough(new DecompressionStream("zstd"))) {
      size += chunk.length;
      if (size > MAX_BASE) throw new Error(`it unpacks to more than ${MAX_BASE} bytes, which no base has`);
      for (let n = 0; n < chunk.length; ) n += writeSync(file.fd, chunk, n);
    }
  } catch (error) {
    if (codeOf(error) === "ENOSPC" || codeOf(error) === "EDQUOT") throw error;
    throw new WaltError(`cannot unpack the base ${base}: ${messageOf(error)}`, { cause: error });
  }
  return to;
}

/**
 * Copy a base, and return its partitions.
 * @param base path of the uncompressed base.
 * @param name path of the base for messages.
 * @throws WaltError when the file is not a base.
 */
async function copyBase(base: string, name: string, to: string, progress: Progress): Promise<Layout> {
  using from = openFile(base, "r");
  // Nobody else may read the image: with the enrolment key in it, one can ask for access to the VPN.
  using target = openFile(to, "wx", 0o600);
  const sector = Buffer.alloc(512);
  readSync(from.fd, sector, 0, sector.length, 0);
  const layout = parseMasterBootRecord(sector, fstatSync(from.fd).size, name);
  await copySparse(from.fd, target.fd, { progress });
  return layout;
}

/**
 * Put the configuration's files on the boot partition, and check that they read back.
 * @throws WaltError when the image has a configuration already, or when other data is read back.
 */
async function addDeviceFiles(
  image: string,
  layout: Layout,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<void> {
  // An image that has a configuration is refused: its files that are not replaced would stay in the new
  // image.
  const present = (await listFat(image, layout.boot.start)).filter((name) =>
    Object.hasOwn(DEVICE_FILES, name),
  );
  if (present.length > 0)
    throw new WaltError(`the base has a device's configuration already: ${present.join(", ")}`, {
      hint: "Use a base instead of an image. `walt image build` makes a base, and prints its path.",
    });
  await writeFat(image, layout.boot.start, files, FILE_TIME);
  for (const [name, data] of Object.entries(files)) {
    const found = await readFat(image, layout.boot.start, name);
    if (!found.equals(data)) throw new WaltError(`${name} reads back from the image with another content`);
  }
  using file = openFile(image, "r+");
  fsyncSync(file.fd);
}

/**
 * Compress the file `from` with zstd into the new file `to`, and return the SHA-256 of the result, in hex.
 */
async function compress(from: string, to: string, progress: Progress): Promise<string> {
  const hash = createHash("sha256");
  using source = openFile(from, "r");
  using target = openFile(to, "wx", 0o600);
  const { size } = fstatSync(source.fd);
  for (let position = 0; position < size; position += FRAME) {
    const frame = Buffer.alloc(Math.min(FRAME, size - position));
    for (let n = 0; n < frame.length; ) n += readSync(source.fd, frame, n, frame.length - n, position + n);
    const packed = await Bun.zstdCompress(frame, { level: LEVEL });
    hash.update(packed);
    for (let n = 0; n < packed.length; ) n += writeSync(target.fd, packed, n);
    progress((position + frame.length) / size);
  }
  fsyncSync(target.fd);
  return hash.digest("hex");
}

/**
 * Give finished files their names. Without `force`, either all get their names or, when one name is taken,
 * none.
 * @throws WaltError when a name is taken.
 */
function putAll(files: readonly (readonly [from: string, to: string])[], force: boolean): void {
  const placed: string[] = [];
  try {
    for (const [from, to] of files) {
      put(from, to, force);
      placed.push(to);
      syncFolder(dirname(to));
    }
  } catch (error) {
    if (!force) for (const path of placed) rmSync(path, { force: true });
    throw error;
  }
}

function put(from: string, to: string, force: boolean): void {
  if (force) {
    renameSync(from, to);
    return;
  }
  try {
    claim(from, to);
  } catch (error) {
    if (codeOf(error) === "EEXIST") refuseExisting(to);
    throw error;
  }
}
