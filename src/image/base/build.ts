/**
 * Builds a base from the recipe: the image with everything that all cards have in common.
 * Building needs no root and no mount, and runs no program of the packages.
 */

import {
  existsSync,
  fsyncSync,
  ftruncateSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { CARD_BOARDS } from "../../boards.ts";
import { WaltError } from "../../errors.ts";
import { openFile, syncFolder, writeFileAtomic } from "../../linux/files.ts";
import { VERSION } from "../../version.ts";
import { BOOT_SIZE, layout, masterBootRecord, STATE_SIZE } from "../disk/disk.ts";
import { makeFat, writeFat } from "../disk/fat.ts";
import { copySparse } from "../disk/sparse.ts";
import { tool } from "../process.ts";
import { BUILD_TOOLS, needTools } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";
import { type Package, sha256File } from "./apt.ts";
import { ARM64 } from "./architecture.ts";
import { type BaseFiles, baseFiles, inputsHash } from "./cache.ts";
import { buildInitramfs } from "./initramfs.ts";
import { type BaseRecord, type CardManifest, readRecord } from "./manifest.ts";
import { Modules } from "./modules.ts";
import { listed, newestPackages, type PackageSource, sizeOf, unpack } from "./packages.ts";
import { type DeviceRecipe, loadRecipe } from "./recipe.ts";
import { packRoot, rootFiles } from "./rootfs.ts";
import type { Tree } from "./tree.ts";

/** How a base is built. */
export interface BuildOptions extends PackageSource {
  /** Path of the arm64 walt binary. */
  binary: string;
  /** Build even when the cache has the same base already. */
  force?: boolean;
  /** Number of processors that compress; all unless given. */
  jobs?: number;
  /** Called when a step of the build begins, with words for the user. */
  step(what: string): void;
}

/** A base in the cache. */
export interface Base {
  files: BaseFiles;
  record: BaseRecord;
  /** Whether the cache had it already. */
  cached: boolean;
}

/**
 * Build the base with the newest packages of Debian, unless the cache has the same base already.
 * @throws WaltError when a tool of this machine or a package is missing, or when the mirror cannot be
 *   reached.
 */
export async function buildBase(o: BuildOptions): Promise<Base> {
  needTools(BUILD_TOOLS, o.keyring === undefined);
  const recipe = loadRecipe();
  const files = await baseFiles(o.cache, recipe, o.binary);
  o.step("list of Debian's packages");
  const { apt, packages } = await newestPackages(o, recipe, ARM64);
  const walt = await sha256File(o.binary);
  const inputs = inputsHash(recipe, walt, packages);
  const known = o.force ? undefined : readBase(files);
  if (known?.inputs === inputs) return { files, record: known, cached: true };
  o.step(sizeOf(packages));
  await apt.download(packages);
  using work = new WorkFolder(join(o.cache, ".build-"));
  const record = await build(o, recipe, packages, { work: work.path, walt, inputs, files });
  return { files, record, cached: false };
}

/**
 * The base of this recipe and binary in the cache; undefined when there is none. It may have older packages
 * than Debian has now.
 */
export async function cachedBase(o: Pick<BuildOptions, "cache" | "binary">): Promise<Base | undefined> {
  const files = await baseFiles(o.cache, loadRecipe(), o.binary);
  const record = readBase(files);
  return record === undefined ? undefined : { files, record, cached: true };
}

/** The base in the cache, or a new base when there is none. @throws WaltError as `buildBase` does. */
export async function ensureBase(o: BuildOptions): Promise<Base> {
  return (await cachedBase(o)) ?? (await buildBase(o));
}

/**
 * The record of a base; undefined when a file is missing or when the image does not have the recorded size.
 */
function readBase(files: BaseFiles): BaseRecord | undefined {
  const record = readRecord(files.record);
  const size = statSync(files.image, { throwIfNoEntry: false })?.size;
  return record !== undefined && size === record.size ? record : undefined;
}

interface Work {
  /** Path of the folder for unfinished files. */
  work: string;
  /** SHA-256 of the binary, in hex. */
  walt: string;
  /** `inputsHash` of this build. */
  inputs: string;
  /** Where the base is put in the end. */
  files: BaseFiles;
}

/** Build a base from packages that are downloaded, and put it into the cache. */
async function build(
  o: BuildOptions,
  recipe: DeviceRecipe,
  packages: readonly Package[],
  w: Work,
): Promise<BaseRecord> {
  const { work } = w;
  o.step("unpacking");
  const tree = await unpack(packages, join(work, "packages"), ARM64);
  const modules = Modules.of(tree);
  const kernel = tree.get(`/boot/vmlinuz-${modules.version}`);
  const epoch = sourceDate(kernel.source);
  const options = { recipe, tree, modules, walt: o.binary };
  const files = rootFiles(options);
  const used = new Set([...files.values()].map((found) => found.owner));
  used.add(kernel.owner).add("raspi-firmware");
  const manifest: CardManifest = {
    format: 1,
    boards: CARD_BOARDS,
    walt: { version: VERSION, sha256: w.walt },
    recipe: recipe.hash,
    kernel: modules.version,
    epoch,
    packages: listed(packages, used),
  };

  o.step("root file system");
  const squashfs = await packRoot(files, options, { work, manifest, jobs: o.jobs });

  o.step("boot and state partitions");
  const fat = join(work, "boot.fat");
  await makeFat(fat, BOOT_SIZE);
  await writeFat(fat, 0, await bootFiles(recipe, tree, modules, kernel.source), epoch);
  const state = join(work, "state.ext4");
  await makeState(state, epoch);

  o.step("image");
  const sizes = layout(statSync(squashfs).size);
  const image = join(work, "base.img");
  using target = openFile(image, "wx", 0o644);
  writeSync(target.fd, masterBootRecord(sizes), 0, 512, 0);
  for (const [file, at] of [
    [fat, sizes.boot.start],
    [squashfs, sizes.root.start],
    [state, sizes.state.start],
  ] as const)
    await putFile(file, target.fd, at);
  ftruncateSync(target.fd, sizes.size);
  fsyncSync(target.fd);
  const record: BaseRecord = { inputs: w.inputs, sha256: await sha256File(image), epoch, size: sizes.size };
  // The old record goes before the old image and the new record comes after the new image: a record whose
  // image is missing or has another size counts as no base, so that an interruption leaves no base instead of
  // a wrong one.
  rmSync(w.files.record, { force: true });
  renameSync(image, w.files.image);
  syncFolder(o.cache);
  writeFileAtomic(w.files.record, `${JSON.stringify({ ...record, manifest }, null, 2)}\n`);
  return record;
}

/**
 * The modification time of all files of the base, in seconds since 1970: SOURCE_DATE_EPOCH where it is set
 * (reproducible-builds.org), otherwise that of the kernel, which is the newest file among the inputs.
 */
export function sourceDate(kernel: string): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given === undefined || given === "") return Math.floor(statSync(kernel).mtimeMs / 1000);
  if (!/^\d{1,10}$/.test(given))
    throw new WaltError(`SOURCE_DATE_EPOCH is ${JSON.stringify(given)}, which is not a number of seconds`);
  return Number(given);
}

/** The files of the boot partition except the device's configuration: name → content. */
async function bootFiles(
  recipe: DeviceRecipe,
  tree: Tree,
  modules: Modules,
  kernel: string,
): Promise<Record<string, Uint8Array>> {
  const result: Record<string, Uint8Array> = {
    "config.txt": Buffer.from(recipe.configTxt),
    "cmdline.txt": Buffer.from(recipe.cmdlineTxt),
    "kernel8.img": readFileSync(kernel),
    "initramfs.img": await buildInitramfs(recipe, modules, tree.get("/usr/bin/busybox").source),
  };
  for (const { kind, name } of recipe.firmware) {
    const path =
      kind === "firmware"
        ? `/usr/lib/raspi-firmware/${name}`
        : `/usr/lib/linux-image-${modules.version}/broadcom/${name}`;
    result[name] = readFileSync(tree.get(path).source);
  }
  return result;
}

/**
 * Make an empty ext4 file system with all its tables written, so that the kernel need not write them later.
 */
async function makeState(file: string, epoch: number): Promise<void> {
  if (existsSync(file)) rmSync(file);
  const uuid = "57414c54-0000-4000-8000-000000000003";
  const extended = `hash_seed=${uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard`;
  const options = ["-q", "-F", "-t", "ext4", "-m", "0", "-L", "walt-state", "-U", uuid, "-E", extended];
  await tool(["mkfs.ext4", ...options, file, `${STATE_SIZE / 1024}`], { epoch });
}

/** Copy `file` into the open file `image`, `at` bytes from its beginning. */
async function putFile(file: string, image: number, at: number): Promise<void> {
  using from = openFile(file, "r");
  await copySparse(from.fd, image, { at });
}
