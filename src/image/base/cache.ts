/** The cache: a folder of downloaded packages and finished bases. */

import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { sha256File } from "./apt.ts";
import type { Architecture } from "./architecture.ts";
import type { Recipe } from "./recipe.ts";

/** To be increased whenever a change of this program makes another base from the same inputs. */
const FORMAT = 1;

/**
 * The absolute path of the cache; the folder is made when it is missing.
 * @param given the path that the user chose; otherwise it is `walt` in the user's cache folder (XDG Base
 *   Directory Specification).
 * @throws WaltError when the folder cannot be made.
 */
export function cacheFolder(given?: string, env: Record<string, string | undefined> = process.env): string {
  const xdg = env["XDG_CACHE_HOME"];
  const base = xdg?.startsWith("/") ? xdg : join(env["HOME"] ?? "/var/tmp", ".cache");
  const folder = resolve(given ?? join(base, "walt"));
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new WaltError(`cannot make the folder ${folder}: ${messageOf(error)}`, {
      hint: "Name another one with --cache.",
      cause: error,
    });
  }
  return folder;
}

/** The folder of apt's lists and downloads in the cache. */
export function aptFolder(cache: string, { debian }: Architecture): string {
  return join(cache, debian === "arm64" ? "apt" : `apt-${debian}`);
}

/** Paths of the two files of a base. */
export interface BaseFiles {
  /** Path of the raw image. */
  image: string;
  /** Path of its record (`BaseRecord`). */
  record: string;
}

/**
 * The paths of the base that a recipe and a binary make. They do not depend on the versions of Debian's
 * packages, so that a base stays usable when newer packages appear.
 * @param binary path of the arm64 binary.
 */
export async function baseFiles(cache: string, recipe: Recipe, binary: string): Promise<BaseFiles> {
  const hash = createHash("sha256").update(`${FORMAT}\0${recipe.hash}\0${await sha256File(binary)}`);
  const stem = join(cache, `rpi-3-base-${hash.digest("hex").slice(0, 16)}`);
  return { image: `${stem}.img`, record: `${stem}.json` };
}

/** The paths of a node's image: as `baseFiles`. */
export function nodeFiles(
  cache: string,
  recipe: Recipe,
  { debian }: Architecture,
): { kernel: string; initramfs: string; record: string } {
  const hash = createHash("sha256").update(`${FORMAT}\0${recipe.hash}`);
  const stem = join(cache, `node-${debian}-${hash.digest("hex").slice(0, 16)}`);
  return { kernel: `${stem}.vmlinuz`, initramfs: `${stem}.initrd`, record: `${stem}.json` };
}

/**
 * SHA-256 over everything that goes into an image, in hex. The order of `packages` does not matter.
 * @param binarySha256 that of the walt binary, "" when there is none in it.
 */
export function inputsHash(
  recipe: Recipe,
  binarySha256: string,
  packages: readonly { sha256: string }[],
): string {
  const hash = createHash("sha256").update(`${FORMAT}\0${recipe.hash}\0${binarySha256}`);
  for (const sha256 of packages.map((one) => one.sha256).sort()) hash.update(`\0${sha256}`);
  return hash.digest("hex");
}
