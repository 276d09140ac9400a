/** The folder of downloads and finished bases. */

import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { sha256File } from "./apt.ts";
import type { Recipe } from "./recipe.ts";

/** Changes whenever the program would make another base of the same inputs. */
const FORMAT = 1;

/** Its path: what is told, else `walt` in the user's cache folder (XDG Base Directory Specification). Made when missing. */
export function cacheFolder(told?: string, env: Record<string, string | undefined> = process.env): string {
  const xdg = env["XDG_CACHE_HOME"];
  const base = xdg?.startsWith("/") ? xdg : join(env["HOME"] ?? "/var/tmp", ".cache");
  const folder = resolve(told ?? join(base, "walt"));
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

/** Paths of the base that this recipe and binary make; it stays good when Debian's packages change. */
export interface BaseFiles {
  /** The raw image. */
  image: string;
  /** What it is made of, and its sums. */
  record: string;
}

/** @param binary path of the arm64 binary. */
export async function baseFiles(cache: string, recipe: Recipe, binary: string): Promise<BaseFiles> {
  const hash = createHash("sha256").update(`${FORMAT}\0${recipe.hash}\0${await sha256File(binary)}`);
  const stem = join(cache, `rpi-3-base-${hash.digest("hex").slice(0, 16)}`);
  return { image: `${stem}.img`, record: `${stem}.json` };
}

/** SHA-256 over everything that goes into a base, hex. */
export function inputsHash(
  recipe: Recipe,
  binarySha256: string,
  packages: readonly { sha256: string }[],
): string {
  const hash = createHash("sha256").update(`${FORMAT}\0${recipe.hash}\0${binarySha256}`);
  for (const sha256 of packages.map((one) => one.sha256).sort()) hash.update(`\0${sha256}`);
  return hash.digest("hex");
}
