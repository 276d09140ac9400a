/**
 * The root file system of a system, packed as a squashfs. It has files of Debian packages with the libraries
 * that they need, the files of the recipe's `root/`, kernel modules, and on a card the walt binary.
 */

import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { WaltError } from "../../errors.ts";
import { tool } from "../process.ts";
import { isElf, parseElf } from "./elf.ts";
import type { CardManifest, NodeManifest } from "./manifest.ts";
import type { Modules } from "./modules.ts";
import { MODULE_KINDS, type Recipe } from "./recipe.ts";
import type { Found, Tree } from "./tree.ts";

/** Path of the walt binary in the root. */
export const WALT_PATH = "/usr/local/bin/walt";
/** Path of the manifest in the root. */
export const MANIFEST_PATH = "/usr/share/walt/manifest.json";

/** What a root is put together from. */
export interface RootOptions {
  recipe: Recipe;
  /** The unpacked packages. */
  tree: Tree;
  modules: Modules;
  /** Path on this machine of the walt binary that the root gets; undefined when it gets none. */
  walt: string | undefined;
}

/**
 * The files of packages that the root gets: absolute path in the root → file.
 * @throws WaltError when a file or library is in no package, or when the walt binary is for another
 *   architecture.
 */
export function rootFiles(o: RootOptions): Map<string, Found> {
  const files = new Map<string, Found>();
  for (const { kind, path } of o.recipe.root) {
    if (kind === "file") files.set(path, o.tree.get(path));
    else if (kind === "all") addFolder(o.tree, path, files);
    else o.tree.closure(path, files);
  }
  if (o.walt !== undefined) addNeeds(o.tree, o.walt, files);
  // The licences of the packages require that their copyright files go with them.
  for (const owner of new Set([...files.values()].map((found) => found.owner))) {
    const found = o.tree.find(`/usr/share/doc/${owner}/copyright`);
    if (found !== undefined) files.set(`/usr/share/doc/${owner}/copyright`, found);
  }
  return files;
}

/** Add all files below a folder, with the libraries that they need. @throws WaltError when there are none. */
function addFolder(tree: Tree, folder: string, files: Map<string, Found>): void {
  const paths = [...tree.paths()].filter((path) => path.startsWith(`${folder}/`));
  if (paths.length === 0) throw new WaltError(`no package contains the folder ${folder}`);
  for (const path of paths) {
    const found = tree.find(path);
    if (found === undefined) continue; // a link to what another package would have
    if (isElf(readFileSync(found.source))) tree.closure(path, files);
    else files.set(path, found);
  }
}

/** Add what a program of this machine needs. @throws WaltError when it is for another architecture. */
function addNeeds(tree: Tree, program: string, files: Map<string, Found>): void {
  const { debian, libraries, machine } = tree.architecture;
  const elf = parseElf(readFileSync(program), program);
  if (elf.machine !== machine) throw new WaltError(`${program} is not an ${debian} binary`);
  for (const name of [elf.interpreter ?? "", ...elf.needed.map((n) => `/usr/lib/${libraries}/${n}`)])
    tree.closure(name, files);
}

/** How a root is packed. */
export interface PackOptions {
  /** Folder for what is made. */
  work: string;
  /** What the root's manifest says. */
  manifest: CardManifest | NodeManifest;
  /** Number of processors that compress; all unless given. */
  jobs: number | undefined;
}

/**
 * Put a root together, and pack it.
 * @param files what `rootFiles` returned.
 * @returns the path of the squashfs.
 */
export async function packRoot(files: Map<string, Found>, o: RootOptions, p: PackOptions): Promise<string> {
  const root = join(p.work, "root");
  mkdirSync(root, { mode: 0o755 });
  await assembleRoot(root, files, o);
  const manifest = join(root, MANIFEST_PATH);
  mkdirSync(dirname(manifest), { recursive: true, mode: 0o755 });
  writeFileSync(manifest, `${JSON.stringify(p.manifest, null, 2)}\n`);
  normalizeModes(root);
  const squashfs = join(p.work, "root.squashfs");
  await makeSquashfs(root, squashfs, p.jobs ?? navigator.hardwareConcurrency, p.manifest.epoch);
  return squashfs;
}

/** Put the root together in `root`, an empty folder. @param files what `rootFiles` returned. */
async function assembleRoot(root: string, files: Map<string, Found>, o: RootOptions): Promise<void> {
  const place = (path: string, mode: number, write: (to: string) => void): void => {
    const to = join(root, path);
    mkdirSync(dirname(to), { recursive: true, mode: 0o755 });
    write(to);
    chmodSync(to, mode);
  };
  const text = (path: string, content: string): void =>
    place(path, 0o644, (to) => writeFileSync(to, content));
  for (const folder of o.recipe.folders) mkdirSync(join(root, folder), { recursive: true, mode: 0o755 });
  for (const [path, { source }] of files) {
    // The set-user-id bits of packages are dropped.
    const mode = (lstatSync(source).mode & 0o111) === 0 ? 0o644 : 0o755;
    place(path, mode, (to) => copyFileSync(source, to));
  }
  const { walt } = o;
  if (walt !== undefined) place(WALT_PATH, 0o755, (to) => copyFileSync(walt, to));
  for (const file of o.recipe.rootFiles)
    place(file.path, file.executable ? 0o755 : 0o644, (to) => writeFileSync(to, file.text));
  for (const { path, target } of o.recipe.links) link(join(root, path), target);
  for (const { kind, name } of o.recipe.applets) {
    const to = join(root, "usr", kind, name);
    if (!existsSync(to)) link(to, kind === "bin" ? "busybox" : "../bin/busybox");
  }
  const loaded = MODULE_KINDS.filter((kind) => kind !== "early");
  const lines = loaded.flatMap((kind) => o.recipe.modules[kind].map((name) => `${kind} ${name}\n`));
  text("etc/walt-modules", lines.join(""));
  text("etc/walt-os", `${o.modules.version}\n`); // the initramfs recognises the root partition by it
  for (const module of await o.modules.closure(loaded.flatMap((kind) => o.recipe.modules[kind])))
    place(module.path, 0o644, (to) => writeFileSync(to, module.data));
  for (const [path, source] of o.modules.lists()) place(path, 0o644, (to) => copyFileSync(source, to));
  await indexModules(root, o.modules.version);
}

/**
 * Set the permissions of a folder and everything in it: everybody may read, only the owner may write.
 * The result does not depend on the umask that the files were made with.
 */
export function normalizeModes(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) normalizeModes(path);
    else if (entry.isFile()) chmodSync(path, (lstatSync(path).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}

/** Make a symbolic link, and replace what has its path. */
function link(path: string, target: string): void {
  rmSync(path, { force: true });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  symlinkSync(target, path);
}

/**
 * Make modules.dep and modules.alias with depmod(8). busybox's modprobe reads these two as text, so that
 * depmod's binary files and other lists are removed again.
 */
async function indexModules(root: string, version: string): Promise<void> {
  await tool(["depmod", "-b", join(root, "usr"), version]).catch(async () => {
    // depmod looks for modules in `lib/` or `usr/lib/` below the folder: this depends on how it was built.
    await tool(["depmod", "-b", root, version]);
  });
  const folder = join(root, "usr/lib/modules", version);
  if (!existsSync(join(folder, "modules.dep")))
    throw new WaltError(`depmod made no modules.dep in ${folder}`);
  for (const name of new Bun.Glob("modules.*.bin").scanSync(folder)) rmSync(join(folder, name));
  for (const name of ["modules.order", "modules.builtin.modinfo"])
    rmSync(join(folder, name), { force: true });
}

/**
 * zstd's level of compression. Compared with level 19, the result is half a per cent larger and takes a third
 * of the time. A Raspberry Pi and a PC unpack both equally fast.
 */
const LEVEL = 15;

/**
 * Pack the folder `root` as the squashfs `file`.
 * @param jobs number of processors to use.
 * @param epoch modification time of every file, in seconds since 1970.
 */
export async function makeSquashfs(root: string, file: string, jobs: number, epoch: number): Promise<void> {
  rmSync(file, { force: true });
  // biome-ignore format: one subject a line
  await tool([
    "mksquashfs", root, file,
    "-noappend", "-quiet", "-no-progress", "-exit-on-error",
    "-comp", "zstd", "-Xcompression-level", `${LEVEL}`, "-b", "256K",
    "-all-root", "-no-xattrs", "-root-mode", "755",
    "-mkfs-time", `${epoch}`, "-all-time", `${epoch}`,
    "-processors", `${jobs}`,
  ]);
}
