/**
 * Builds a node's image from its recipe: a kernel, and an initramfs with the whole system in it, a squashfs
 * that the node keeps in memory. As for a base of cards, this needs no root, and runs no program of the
 * packages.
 */

import { readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { writeFileAtomic } from "../../linux/files.ts";
import { type Package, sha256File } from "../base/apt.ts";
import { ARM64, type Architecture } from "../base/architecture.ts";
import { sourceDate } from "../base/build.ts";
import { inputsHash, nodeFiles } from "../base/cache.ts";
import { cpioNewc } from "../base/cpio.ts";
import { buildInitramfs } from "../base/initramfs.ts";
import { type BaseRecord, type NodeManifest, readRecord } from "../base/manifest.ts";
import { Modules } from "../base/modules.ts";
import { listed, newestPackages, type PackageSource, sizeOf, unpack } from "../base/packages.ts";
import { loadNodeRecipe, type Recipe } from "../base/recipe.ts";
import { packRoot, rootFiles } from "../base/rootfs.ts";
import { needTools, SYSTEM_TOOLS } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";

/** How an image is built. */
export interface NodeBuildOptions extends PackageSource {
  architecture: Architecture;
  /** Build even when the cache has the same image already. */
  force?: boolean;
  /** Number of processors that compress; all unless given. */
  jobs?: number;
  /** Called when a step of the build begins, with words for the user. */
  step(what: string): void;
}

/** An image in the cache. Nobody can log in to it: `writeBootFiles` adds the keys. */
export interface NodeImage {
  architecture: Architecture;
  /** Path of the kernel. */
  kernel: string;
  /** Path of the initramfs. */
  initramfs: string;
  /** The kernel's command line. */
  cmdline: string;
  /** Of the initramfs. */
  record: BaseRecord;
  /** Path of the record, which has the manifest as well. */
  recordFile: string;
  /** Whether the cache had it already. */
  cached: boolean;
}

/**
 * Build the image with the newest packages of Debian, unless the cache has the same image already.
 * @throws WaltError when a tool of this machine or a package is missing, or when the mirror cannot be
 *   reached.
 */
export async function buildNode(o: NodeBuildOptions): Promise<NodeImage> {
  needTools(SYSTEM_TOOLS, o.keyring === undefined);
  const { architecture } = o;
  const recipe = loadNodeRecipe(architecture);
  const { kernel, initramfs, record: recordFile } = nodeFiles(o.cache, recipe, architecture);
  o.step(`list of Debian's packages for ${architecture.debian}`);
  const { apt, packages } = await newestPackages(o, recipe, architecture);
  const inputs = inputsHash(recipe, "", packages);
  const image = { architecture, kernel, initramfs, cmdline: recipe.cmdlineTxt, recordFile };
  const known = o.force ? undefined : knownRecord(image);
  if (known?.inputs === inputs) return { ...image, record: known, cached: true };
  o.step(sizeOf(packages));
  await apt.download(packages);
  using work = new WorkFolder(join(o.cache, ".build-"));
  const built = await build(o, recipe, packages, work.path);
  const record: BaseRecord = {
    inputs,
    sha256: await sha256File(built.initramfs),
    epoch: built.manifest.epoch,
    size: statSync(built.initramfs).size,
  };
  // As for a base: without the record there is no image.
  rmSync(recordFile, { force: true });
  renameSync(built.kernel, kernel);
  renameSync(built.initramfs, initramfs);
  writeFileAtomic(recordFile, `${JSON.stringify({ ...record, manifest: built.manifest }, null, 2)}\n`);
  return { ...image, record, cached: false };
}

/** The record of an image; undefined when a file is missing or has another size. */
function knownRecord(files: Pick<NodeImage, "kernel" | "initramfs" | "recordFile">): BaseRecord | undefined {
  const record = readRecord(files.recordFile);
  const sizeOfFile = (path: string): number | undefined => statSync(path, { throwIfNoEntry: false })?.size;
  if (sizeOfFile(files.kernel) === undefined) return undefined;
  return sizeOfFile(files.initramfs) === record?.size ? record : undefined;
}

/** Build an image from packages that are downloaded; its files are in `work`. */
async function build(
  o: NodeBuildOptions,
  recipe: Recipe,
  packages: readonly Package[],
  work: string,
): Promise<{ kernel: string; initramfs: string; manifest: NodeManifest }> {
  o.step("unpacking");
  const tree = await unpack(packages, join(work, "packages"), o.architecture);
  const modules = Modules.of(tree);
  const kernel = tree.get(`/boot/vmlinuz-${modules.version}`);
  const epoch = sourceDate(kernel.source);
  const options = { recipe, tree, modules, walt: undefined };
  const files = rootFiles(options);
  const used = new Set([...files.values()].map((found) => found.owner)).add(kernel.owner);
  const manifest: NodeManifest = {
    format: 1,
    architecture: o.architecture.debian,
    recipe: recipe.hash,
    kernel: modules.version,
    epoch,
    packages: listed(packages, used),
  };

  o.step("root file system");
  const squashfs = await packRoot(files, options, { work, manifest, jobs: o.jobs });

  o.step("initramfs");
  const initramfs = join(work, "initrd.img");
  // The kernel unpacks one archive after the other
  // (Documentation/driver-api/early-userspace/buffer-format.rst). The squashfs is compressed already.
  const data = readFileSync(squashfs);
  writeFileAtomic(
    initramfs,
    Buffer.concat([
      cpioNewc([{ path: "root.squashfs", type: "file", data, mode: 0o644 }]),
      await buildInitramfs(recipe, modules, tree.get("/usr/bin/busybox").source),
    ]),
  );
  const vmlinuz = join(work, "vmlinuz");
  const bytes = readFileSync(kernel.source);
  // Debian's kernel for arm64 is not compressed, and iPXE unpacks it.
  writeFileAtomic(vmlinuz, o.architecture === ARM64 ? gzipSync(bytes, { level: 9 }) : bytes);
  return { kernel: vmlinuz, initramfs, manifest };
}
