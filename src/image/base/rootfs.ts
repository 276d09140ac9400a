/**
 * The root file system of a card, packed as a squashfs. It has files of Debian packages with the libraries
 * that they need, the files of `device/root`, kernel modules, and the walt binary.
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
import { AARCH64, parseElf } from "./elf.ts";
import type { Modules } from "./modules.ts";
import { MODULE_KINDS, type Recipe } from "./recipe.ts";
import type { Found, Tree } from "./tree.ts";

/** Path of the walt binary in the root. */
export const WALT_PATH = "/usr/local/bin/walt";
/** Path of the manifest in the root. */
export const MANIFEST_PATH = "/usr/share/walt/manifest.json";

/** Folders that are there even if no file is put in them. */
const FOLDERS = [
  "boot",
  "dev",
  "proc",
  "sys",
  "run",
  "tmp",
  "root",
  "var/lib/walt-vpn",
  "usr/bin",
  "usr/sbin",
];
/** Symbolic links of the root: path → target. */
const LINKS: Readonly<Record<string, string>> = {
  bin: "usr/bin",
  sbin: "usr/sbin",
  lib: "usr/lib",
  "etc/resolv.conf": "../run/resolv.conf",
  "etc/walt": "../boot", // so that `walt device status` needs no --config
  "usr/sbin/init": "../bin/busybox",
  "usr/bin/nc": "nc.openbsd",
  "usr/bin/walt": "../local/bin/walt", // an SSH login's PATH does not have /usr/local/bin
};

/** What a root is put together from. */
export interface RootOptions {
  recipe: Recipe;
  /** The unpacked packages. */
  tree: Tree;
  modules: Modules;
  /** Path of the arm64 walt binary on this machine. */
  walt: string;
}

/**
 * The files of packages that the root gets: absolute path in the root → file.
 * @throws WaltError when a file or library is in no package, or when the walt binary is not for arm64.
 */
export function rootFiles(o: RootOptions): Map<string, Found> {
  const files = new Map<string, Found>();
  for (const { kind, path } of o.recipe.root) {
    if (kind === "file") files.set(path, o.tree.get(path));
    else o.tree.closure(path, files);
  }
  const elf = parseElf(readFileSync(o.walt), o.walt);
  if (elf.machine !== AARCH64) throw new WaltError(`${o.walt} is not an arm64 binary`);
  for (const name of [elf.interpreter ?? "", ...elf.needed.map((n) => `/usr/lib/aarch64-linux-gnu/${n}`)])
    o.tree.closure(name, files);
  // The licences of the packages require that their copyright files go with them.
  for (const owner of new Set([...files.values()].map((found) => found.owner))) {
    const found = o.tree.find(`/usr/share/doc/${owner}/copyright`);
    if (found !== undefined) files.set(`/usr/share/doc/${owner}/copyright`, found);
  }
  return files;
}

/** Put the root together in `root`, an empty folder. @param files what `rootFiles` returned. */
export async function assembleRoot(root: string, files: Map<string, Found>, o: RootOptions): Promise<void> {
  const place = (path: string, mode: number, write: (to: string) => void): void => {
    const to = join(root, path);
    mkdirSync(dirname(to), { recursive: true, mode: 0o755 });
    write(to);
    chmodSync(to, mode);
  };
  const text = (path: string, content: string): void =>
    place(path, 0o644, (to) => writeFileSync(to, content));
  for (const folder of FOLDERS) mkdirSync(join(root, folder), { recursive: true, mode: 0o755 });
  for (const [path, { source }] of files) {
    // The set-user-id bits of packages are dropped.
    const mode = (lstatSync(source).mode & 0o111) === 0 ? 0o644 : 0o755;
    place(path, mode, (to) => copyFileSync(source, to));
  }
  place(WALT_PATH, 0o755, (to) => copyFileSync(o.walt, to));
  for (const file of o.recipe.rootFiles)
    place(file.path, file.executable ? 0o755 : 0o644, (to) => writeFileSync(to, file.text));
  for (const [path, target] of Object.entries(LINKS)) link(join(root, path), target);
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
