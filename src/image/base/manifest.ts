/** What an image was made of: in the image, and beside the base. */

import { existsSync } from "node:fs";
import { WaltError } from "../../errors.ts";
import { readText } from "../../linux/files.ts";
import { Fields } from "../../parse.ts";

export interface Manifest {
  format: 1;
  boards: readonly string[];
  /** Version and SHA-256 of the arm64 walt binary. */
  walt: { version: string; sha256: string };
  /** SHA-256 of `device/`. */
  recipe: string;
  kernel: string;
  /** Time of every file in it, s since 1970. */
  epoch: number;
  packages: readonly { name: string; version: string; architecture: string; sha256: string }[];
}

/** What stands beside a base: the manifest, and what the base is. */
export interface BaseRecord {
  /** SHA-256 of all that went in. */
  inputs: string;
  sha256: string;
  epoch: number;
  /** MiB and such are for people; this is bytes. */
  size: number;
}

/** @throws WaltError when it is damaged. */
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
