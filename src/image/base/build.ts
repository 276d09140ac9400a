/** A base image out of the recipe: everything that all cards have in common. No root, no mount, no foreign code run. */

import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { CARD_BOARDS } from "../../boards.ts";
import { WaltError } from "../../errors.ts";
import { syncFolder, writeFileAtomic } from "../../linux/files.ts";
import { VERSION } from "../../version.ts";
import { BOOT_SIZE, layout, masterBootRecord, STATE_SIZE } from "../disk/disk.ts";
import { makeFat, writeFat } from "../disk/fat.ts";
import { copySparse } from "../disk/sparse.ts";
import { tool } from "../process.ts";
import { BUILD_TOOLS, debianKeyring, needTools } from "../tools.ts";
import { WorkFolder } from "../work-folder.ts";
import { Apt, type Package, sha256File } from "./apt.ts";
import { type BaseFiles, baseFiles, inputsHash } from "./cache.ts";
import { buildInitramfs } from "./initramfs.ts";
import { type BaseRecord, type Manifest, readRecord } from "./manifest.ts";
import { Modules } from "./modules.ts";
import { loadRecipe, type Recipe } from "./recipe.ts";
import { assembleRoot, evenModes, MANIFEST_PATH, makeSquashfs, rootFiles } from "./rootfs.ts";
import { findMirrors, machineSources } from "./sources.ts";
import { Tree } from "./tree.ts";

export interface BuildOptions {
  /** Folder of downloads and bases. */
  cache: string;
  /** Path of the arm64 binary. */
  binary: string;
  /** Of Debian; this machine's own unless told. */
  mirror?: string | undefined;
  /** Build even when the same base is there. */
  force?: boolean;
  /** Processors for compressing; all unless told. */
  jobs?: number;
  /** Told what begins, in words. */
  step(what: string): void;
}

export interface Base {
  files: BaseFiles;
  record: BaseRecord;
  /** It was there already. */
  cached: boolean;
}

/**
 * Build the base with the packages that Debian has today, unless it is there already.
 * @throws WaltError when a tool, a package or the network is missing.
 */
export async function buildBase(o: BuildOptions): Promise<Base> {
  needTools(BUILD_TOOLS, true);
  const recipe = loadRecipe();
  const files = await baseFiles(o.cache, recipe, o.binary);
  const keyring = debianKeyring() ?? "";
  const mirrors = findMirrors(o.mirror, machineSources());
  const apt = await Apt.create({ folder: join(o.cache, "apt"), mirrors, keyring, packages: recipe.packages });
  o.step("list of Debian's packages");
  await apt.update();
  const packages = await apt.resolve();
  const walt = await sha256File(o.binary);
  const inputs = inputsHash(recipe, walt, packages);
  const known = o.force ? undefined : readBase(files);
  if (known?.inputs === inputs) return { files, record: known, cached: true };
  const size = packages.reduce((sum, one) => sum + one.size, 0);
  o.step(`${packages.length} packages, ${Math.round(size / 1e6)} MB`);
  await apt.download(packages);
  using work = new WorkFolder(join(o.cache, ".build-"));
  const record = await build(o, recipe, packages, { work: work.path, walt, inputs, files });
  return { files, record, cached: false };
}

/** The base that the cache has for this recipe and binary, whatever Debian has today; undefined without. */
export async function cachedBase(o: Pick<BuildOptions, "cache" | "binary">): Promise<Base | undefined> {
  const files = await baseFiles(o.cache, loadRecipe(), o.binary);
  const record = readBase(files);
  return record === undefined ? undefined : { files, record, cached: true };
}

/** The cached base, or a new one where there is none. @throws WaltError like `buildBase`. */
export async function ensureBase(o: BuildOptions): Promise<Base> {
  return (await cachedBase(o)) ?? (await buildBase(o));
}

function readBase(files: BaseFiles): BaseRecord | undefined {
  const record = readRecord(files.record);
  const size = statSync(files.image, { throwIfNoEntry: false })?.size;
  return record !== undefined && size === record.size ? record : undefined;
}

interface Work {
  work: string;
  /** SHA-256 of the binary. */
  walt: string;
  inputs: string;
  files: BaseFiles;
}

async function build(
  o: BuildOptions,
  recipe: Recipe,
  packages: readonly Package[],
  w: Work,
): Promise<BaseRecord> {
  const { work } = w;
  o.step("unpacking");
  const tree = new Tree();
  for (const { name, file } of packages) {
    const folder = join(work, "packages", name);
    mkdirSync(folder, { recursive: true });
    await tool(["dpkg-deb", "-x", file, folder]);
    tree.add(name, folder);
  }
  const modules = Modules.of(tree);
  const kernel = tree.get(`/boot/vmlinuz-${modules.version}`);
  const epoch = sourceDate(kernel.source);
  const options = { recipe, tree, modules, walt: o.binary };
  const files = rootFiles(options);
  const used = new Set([...files.values()].map((found) => found.owner));
  used.add(kernel.owner).add("raspi-firmware");
  const manifest: Manifest = {
    format: 1,
    boards: CARD_BOARDS,
    walt: { version: VERSION, sha256: w.walt },
    recipe: recipe.hash,
    kernel: modules.version,
    epoch,
    packages: packages
      .filter(({ name }) => used.has(name))
      .map(({ name, version, architecture, sha256 }) => ({ name, version, architecture, sha256 })),
  };

  o.step("root file system");
  const root = join(work, "root");
  mkdirSync(join(root, "usr/share/walt"), { recursive: true, mode: 0o755 });
  await assembleRoot(root, files, options);
  writeFileAtomic(join(root, MANIFEST_PATH), `${JSON.stringify(manifest, null, 2)}\n`);
  evenModes(root);
  const squashfs = join(work, "root.squashfs");
  await makeSquashfs(root, squashfs, o.jobs ?? navigator.hardwareConcurrency, epoch);

  o.step("boot and state partitions");
  const fat = join(work, "boot.fat");
  await makeFat(fat, BOOT_SIZE);
  await writeFat(fat, 0, await bootFiles(recipe, tree, modules, kernel.source), epoch);
  const state = join(work, "state.ext4");
  await makeState(state, epoch);

  o.step("image");
  const sizes = layout(statSync(squashfs).size);
  const image = join(work, "base.img");
  const fd = openSync(image, "wx", 0o644);
  try {
    writeSync(fd, masterBootRecord(sizes), 0, 512, 0);
    for (const [file, at] of [
      [fat, sizes.boot.start],
      [squashfs, sizes.root.start],
      [state, sizes.state.start],
    ] as const)
      await putFile(file, fd, at);
    ftruncateSync(fd, sizes.size);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  const record: BaseRecord = { inputs: w.inputs, sha256: await sha256File(image), epoch, size: sizes.size };
  // A record without its image, or with another one, counts as no base.
  rmSync(w.files.record, { force: true });
  renameSync(image, w.files.image);
  syncFolder(o.cache);
  writeFileAtomic(w.files.record, `${JSON.stringify({ ...record, manifest }, null, 2)}\n`);
  return record;
}

/** SOURCE_DATE_EPOCH where it is set (reproducible-builds.org), else the time of the newest input that has one: the kernel. */
function sourceDate(kernel: string): number {
  const told = process.env["SOURCE_DATE_EPOCH"];
  if (told === undefined || told === "") return Math.floor(statSync(kernel).mtimeMs / 1000);
  if (!/^\d{1,10}$/.test(told))
    throw new WaltError(`SOURCE_DATE_EPOCH is ${JSON.stringify(told)}, not a number of seconds`);
  return Number(told);
}

/** Everything on the boot partition but the configuration. */
async function bootFiles(
  recipe: Recipe,
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

/** An empty ext4, all of its tables written, so that the kernel has nothing to do for it later. */
async function makeState(file: string, epoch: number): Promise<void> {
  if (existsSync(file)) rmSync(file);
  const uuid = "57414c54-0000-4000-8000-000000000003";
  const extended = `hash_seed=${uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard`;
  const options = ["-q", "-F", "-t", "ext4", "-m", "0", "-L", "walt-state", "-U", uuid, "-E", extended];
  await tool(["mkfs.ext4", ...options, file, `${STATE_SIZE / 1024}`], { epoch });
}

async function putFile(file: string, image: number, at: number): Promise<void> {
  const fd = openSync(file, "r");
  try {
    await copySparse(fd, image, { at });
  } finally {
    closeSync(fd);
  }
}
