/** A recipe's packages on this machine: which they are today, and their files. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { tool } from "../process.ts";
import { debianKeyring } from "../tools.ts";
import { Apt, type Package } from "./apt.ts";
import type { Architecture } from "./architecture.ts";
import { aptFolder } from "./cache.ts";
import type { Recipe } from "./recipe.ts";
import { findMirrors } from "./sources.ts";
import { Tree } from "./tree.ts";

/** Where packages come from, and where they are kept. */
export interface PackageSource {
  /** The cache: folder of downloaded packages and of what was built from them. */
  cache: string;
  /** Address of a Debian mirror; the mirror of this machine's apt unless given. */
  mirror?: string | undefined;
  /** Path of the keyring that the mirror's signatures are checked with; Debian's unless given. */
  keyring?: string | undefined;
}

/**
 * apt for the packages of a recipe, and the newest of them. Nothing is downloaded but the lists.
 * @throws WaltError when the mirror cannot be reached, or lacks a package.
 */
export async function newestPackages(
  o: PackageSource,
  recipe: Recipe,
  architecture: Architecture,
): Promise<{ apt: Apt; packages: Package[] }> {
  const apt = await Apt.create({
    folder: aptFolder(o.cache, architecture),
    mirrors: await findMirrors(o.mirror),
    keyring: o.keyring ?? debianKeyring() ?? "",
    architecture,
    packages: recipe.packages,
  });
  await apt.update();
  return { apt, packages: await apt.resolve() };
}

/** Unpack packages that are downloaded. @param into a folder that is made; the tree's files are in it. */
export async function unpack(
  packages: readonly Package[],
  into: string,
  architecture: Architecture,
): Promise<Tree> {
  const tree = new Tree(architecture);
  for (const { name, file } of packages) {
    const folder = join(into, name);
    mkdirSync(folder, { recursive: true });
    await tool(["dpkg-deb", "-x", file, folder]);
    tree.add(name, folder);
  }
  return tree;
}

/** What goes into a manifest of packages: those of `owners`. */
export function listed(packages: readonly Package[], owners: ReadonlySet<string>) {
  return packages
    .filter(({ name }) => owners.has(name))
    .map(({ name, version, architecture, sha256 }) => ({ name, version, architecture, sha256 }));
}

/** Bytes of packages, in words. */
export function sizeOf(packages: readonly Package[]): string {
  const size = packages.reduce((sum, one) => sum + one.size, 0);
  return `${packages.length} packages, ${Math.round(size / 1e6)} MB`;
}
