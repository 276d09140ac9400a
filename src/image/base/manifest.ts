/** The manifest of a base: the versions and checksums of everything it was built from. */

import { existsSync } from "node:fs";
import { WaltError } from "../../errors.ts";
import { readText } from "../../linux/files.ts";
import { Fields } from "../../parse.ts";

/** The manifest, which is a file in the root (`MANIFEST_PATH`) and a part of the record. */
export interface Manifest {
  /** Version of this format. */
  format: 1;
  /** SHA-256 (hex) of the recipe. */
  recipe: string;
  /** Version of the kernel, such as `6.12.0-arm64`. */
  kernel: string;
  /** Modification time of every file in the image, in seconds since 1970. */
  epoch: number;
  /** Debian packages that files were taken from; `sha256` is that of the .deb, in hex. */
  packages: readonly { name: string; version: string; architecture: string; sha256: string }[];
}

/** The manifest of a card's base. */
export interface CardManifest extends Manifest {
  /** Models of boards that a card with this base boots on. */
  boards: readonly string[];
  /** Version and SHA-256 (hex) of the arm64 walt binary. */
  walt: { version: string; sha256: string };
}

/** The manifest of a node's image. */
export interface NodeManifest extends Manifest {
  /** Debian's name of the architecture. */
  architecture: string;
}

/**
 * The record of a base: a JSON file beside the base's image, or the initramfs of a node's,
 * which holds the manifest besides these fields.
 */
export interface BaseRecord {
  /** SHA-256 (hex) over everything that the base was built from (`inputsHash`). */
  inputs: string;
  /** SHA-256 (hex) of that file. */
  sha256: string;
  /** Modification time of every file in the image, in seconds since 1970. */
  epoch: number;
  /** Size of that file, in bytes. */
  size: number;
}

/**
 * The record of a base, without its manifest; undefined when there is no such file.
 * @throws WaltError when the file is damaged.
 */
export function readRecord(path: string): BaseRecord | undefined {
  if (!existsSync(path)) return undefined;
  const fields = Fields.parse(readText(path, 1 << 20), path, 1 << 20);
  const hex = /^[0-9a-f]{64}$/;
  const record = {
    inputs: fields.text("inputs", 64, hex),
    sha256: fields.text("sha256", 64, hex),
    epoch: fields.integer("epoch", 0, 2 ** 32),
    size: fields.integer("size", 0, 2 ** 40),
  };
  if (record.size === 0) throw new WaltError(`${path}: the base is empty`);
  return record;
}
