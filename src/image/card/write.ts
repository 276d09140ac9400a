/** One card's image out of a base: the base with a device's configuration on its boot partition. Seconds, no root. */

import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { codeOf, messageOf, usageError, WaltError } from "../../errors.ts";
import { claim, syncFolder } from "../../linux/files.ts";
import { blockMap, mappedRanges } from "../disk/bmap.ts";
import { type Layout, parseMasterBootRecord } from "../disk/disk.ts";
import { listFat, readFat, writeFat } from "../disk/fat.ts";
import { copySparse, type Progress, survey } from "../disk/sparse.ts";
import { needTools, WRITE_TOOLS } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";

/** What a device is given, and nothing else: names of the files, and whether each must be there. */
export const DEVICE_FILES: Readonly<Record<string, boolean>> = {
  "vpn.toml": true,
  known_hosts: true,
  enrolment_key: true,
  "os.txt": false,
  authorized_keys: false,
};
const MAX_DEVICE_FILE = 1 << 20;

/** Time of the files, s since 1970 (2020-01-01): the card has no clock, and the same configuration gives the same bytes. */
const FILE_TIME = 1_577_836_800;

/** zstd's own default: most of the image is compressed already. */
const LEVEL = 3;
/** Each piece is a zstd frame of its own; zstd(1) unpacks frames behind one another as one. */
const FRAME = 8 << 20;

export interface WriteImageOptions {
  /** Path of the base, as it is or compressed with zstd. */
  base: string;
  /** `vpn.toml`, `known_hosts` and `enrolment_key` with their content; `os.txt` (os-settings.ts) and `authorized_keys` (login-keys.ts) may be there. */
  deviceFiles: Readonly<Record<string, Uint8Array>>;
  /** Path of the image; with `compress` `.zst` is put behind it. `.sha256` and `.bmap` stand beside it. */
  output: string;
  compress: boolean;
  /** Replace existing files. */
  force: boolean;
  /** Told what is being done, and how far it is, from 0 to 1. */
  progress?: (what: "copying" | "checking" | "compressing", fraction: number) => void;
}

export interface WrittenImage {
  /** Paths of what was written. */
  image: string;
  checksum: string;
  blockMap: string;
  /** Of `image`, hex. */
  sha256: string;
  /** Of the card's content, bytes. */
  size: number;
}

/**
 * Write it, read it back and check it. Under the final names there is all or nothing.
 * @throws WaltError when a file exists already (without `force`), the base is not one, or the disk is full.
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
    await personalise(raw, layout, o.deviceFiles);
    const seen = await survey(raw, await mappedRanges(raw, layout), (f) => o.progress?.("checking", f));
    const done = { path: raw, sha256: seen.sha256 };
    if (o.compress) {
      done.path = join(work, "compressed");
      done.sha256 = await compress(raw, done.path, (f) => o.progress?.("compressing", f));
    }
    const [sums, map] = [join(work, "sha256"), join(work, "bmap")];
    writeFileSync(sums, `${done.sha256}  ${basename(image)}\n`);
    writeFileSync(map, blockMap(seen));
    // The image last: where it is, the others are.
    putAll(
      [
        [map, written.blockMap],
        [sums, written.checksum],
        [done.path, image],
      ],
      o.force,
    );
    syncFolder(dirname(output));
    return { ...written, sha256: done.sha256, size: seen.size };
  } catch (error) {
    if (error instanceof WaltError) throw error;
    const full = codeOf(error) === "ENOSPC" || codeOf(error) === "EDQUOT";
    throw new WaltError(`cannot write ${image}: ${full ? "the disk is full" : messageOf(error)}`, {
      ...(full ? { hint: "Nothing was left behind. It takes 160 MB, and with --compress 100 MB more." } : {}),
      cause: error,
    });
  }
}

function checkDeviceFiles(files: Readonly<Record<string, Uint8Array>>): void {
  for (const [name, data] of Object.entries(files)) {
    if (!Object.hasOwn(DEVICE_FILES, name))
      throw usageError(`${name} is no file of a device's configuration`);
    if (data.length === 0 || data.length > MAX_DEVICE_FILE)
      throw new WaltError(`${name} has ${data.length} bytes; allowed are 1 to ${MAX_DEVICE_FILE}`);
  }
  const missing = Object.keys(DEVICE_FILES).filter(
    (name) => DEVICE_FILES[name] && !Object.hasOwn(files, name),
  );
  if (missing.length > 0) throw new WaltError(`the device's configuration lacks ${missing.join(", ")}`);
}

function refuseExisting(path: string): void {
  if (!existsSync(path)) return;
  throw new WaltError(`${path} exists already`, {
    hint: "Nothing was written. Replace it with --force, or name another with -o.",
  });
}

/** RFC 8878, 3.1.1: how a zstd file begins. */
const ZSTD = Buffer.from("28b52ffd", "hex");
/** Bytes that no base has. */
const MAX_BASE = 1 << 30;

/** Where a base can be read uncompressed: its own path, or `to`. @throws WaltError when it cannot be read. */
async function uncompressed(base: string, to: string): Promise<string> {
  const magic = Buffer.alloc(ZSTD.length);
  try {
    const fd = openSync(base, "r");
    try {
      readSync(fd, magic, 0, magic.length, 0);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new WaltError(`cannot read the base: ${messageOf(error)}`, { cause: error });
  }
  if (!magic.equals(ZSTD)) return base;
  const fd = openSync(to, "wx", 0o600);
  try {
    let size = 0;
    for await (const chunk of Bun.file(base).stream().pipeThrough(new DecompressionStream("zstd"))) {
      size += chunk.length;
      if (size > MAX_BASE) throw new Error(`it has more than ${MAX_BASE} bytes`);
      for (let n = 0; n < chunk.length; ) n += writeSync(fd, chunk, n);
    }
  } catch (error) {
    if (codeOf(error) === "ENOSPC" || codeOf(error) === "EDQUOT") throw error;
    throw new WaltError(`cannot unpack the base ${base}: ${messageOf(error)}`, { cause: error });
  } finally {
    closeSync(fd);
  }
  return to;
}

/** @param base to read. @param name what it is called in errors. */
async function copyBase(base: string, name: string, to: string, progress: Progress): Promise<Layout> {
  const from = openSync(base, "r");
  // Whoever reads it can ask for access to the VPN.
  const fd = openSync(to, "wx", 0o600);
  try {
    const sector = Buffer.alloc(512);
    readSync(from, sector, 0, sector.length, 0);
    const layout = parseMasterBootRecord(sector, fstatSync(from).size, name);
    await copySparse(from, fd, { progress });
    return layout;
  } finally {
    closeSync(from);
    closeSync(fd);
  }
}

/** Put the files on the boot partition, and see that they are there. */
async function personalise(
  image: string,
  layout: Layout,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<void> {
  // What another card's image has beyond these files would stay on this one.
  const present = (await listFat(image, layout.boot.start)).filter((name) =>
    Object.hasOwn(DEVICE_FILES, name),
  );
  if (present.length > 0)
    throw new WaltError(`the base is an image for a device already: it has ${present.join(", ")}`, {
      hint: "`walt image build` makes a base, and says where it is.",
    });
  await writeFat(image, layout.boot.start, files, FILE_TIME);
  for (const [name, data] of Object.entries(files)) {
    const found = await readFat(image, layout.boot.start, name);
    if (!found.equals(data)) throw new WaltError(`${name} reads back from the image as something else`);
  }
  const fd = openSync(image, "r+");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Compress with zstd; SHA-256 of the result, hex. */
async function compress(from: string, to: string, progress: Progress): Promise<string> {
  const hash = createHash("sha256");
  const [source, target] = [openSync(from, "r"), openSync(to, "wx", 0o600)];
  try {
    const { size } = fstatSync(source);
    for (let position = 0; position < size; position += FRAME) {
      const frame = Buffer.alloc(Math.min(FRAME, size - position));
      for (let n = 0; n < frame.length; ) n += readSync(source, frame, n, frame.length - n, position + n);
      const packed = await Bun.zstdCompress(frame, { level: LEVEL });
      hash.update(packed);
      for (let n = 0; n < packed.length; ) n += writeSync(target, packed, n);
      progress((position + frame.length) / size);
    }
    fsyncSync(target);
    return hash.digest("hex");
  } finally {
    closeSync(source);
    closeSync(target);
  }
}

/** Give finished files their names: all, or none where one is taken. */
function putAll(files: readonly (readonly [from: string, to: string])[], force: boolean): void {
  const placed: string[] = [];
  try {
    for (const [from, to] of files) {
      put(from, to, force);
      placed.push(to);
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
