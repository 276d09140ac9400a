/** The root file system: files of packages with all they need, the recipe's own, modules, and the walt binary; as a squashfs. */

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

export const WALT_PATH = "/usr/local/bin/walt";
export const MANIFEST_PATH = "/usr/share/walt/manifest.json";

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
const LINKS: Readonly<Record<string, string>> = {
  bin: "usr/bin",
  sbin: "usr/sbin",
  lib: "usr/lib",
  "etc/resolv.conf": "../run/resolv.conf",
  "etc/walt": "../boot", // so that `walt device status` needs no --config
  "usr/sbin/init": "../bin/busybox",
  "usr/bin/nc": "nc.openbsd",
  "usr/bin/walt": "../local/bin/walt", // sshd's PATH
};

export interface RootOptions {
  recipe: Recipe;
  tree: Tree;
  modules: Modules;
  /** Path of the arm64 binary. */
  walt: string;
}

/** Files of packages that the root has: path → file. @throws WaltError when a library is missing. */
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
  // Their licences ask for it.
  for (const owner of new Set([...files.values()].map((found) => found.owner))) {
    const found = o.tree.find(`/usr/share/doc/${owner}/copyright`);
    if (found !== undefined) files.set(`/usr/share/doc/${owner}/copyright`, found);
  }
  return files;
}

/** Put the root together in an empty folder. */
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
    // No set-user-id bit comes along.
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
  text("etc/walt-os", `${o.modules.version}\n`); // by which the initramfs knows the partition
  for (const module of await o.modules.closure(loaded.flatMap((kind) => o.recipe.modules[kind])))
    place(module.path, 0o644, (to) => writeFileSync(to, module.data));
  for (const [path, source] of o.modules.lists()) place(path, 0o644, (to) => copyFileSync(source, to));
  await indexModules(root, o.modules.version);
}

/** Everybody may read all of it and only its owner write, whatever umask it was put together with. */
export function evenModes(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) evenModes(path);
    else if (entry.isFile()) chmodSync(path, (lstatSync(path).mode & 0o100) === 0 ? 0o644 : 0o755);
  }
}

function link(path: string, target: string): void {
  rmSync(path, { force: true });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  symlinkSync(target, path);
}

/** modules.dep and modules.alias, which busybox's modprobe reads; it does not know the binary ones. */
async function indexModules(root: string, version: string): Promise<void> {
  await tool(["depmod", "-b", join(root, "usr"), version]).catch(async () => {
    // Where depmod looks below the folder depends on how it was built.
    await tool(["depmod", "-b", root, version]);
  });
  const folder = join(root, "usr/lib/modules", version);
  if (!existsSync(join(folder, "modules.dep")))
    throw new WaltError(`depmod left no modules.dep in ${folder}`);
  for (const name of new Bun.Glob("modules.*.bin").scanSync(folder)) rmSync(join(folder, name));
  for (const name of ["modules.order", "modules.builtin.modinfo"])
    rmSync(join(folder, name), { force: true });
}

/** zstd 15: half a per cent larger than 19 in a third of the time; Pi and PC unpack both equally fast. */
const LEVEL = 15;

/** Compress a folder. @param jobs processors to use. @param epoch s since 1970, of every file. */
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
