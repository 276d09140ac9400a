/**
 * The initramfs of a system: busybox, the kernel modules that reach its root, and the recipe's
 * `initramfs/init`.
 */

import { readFileSync } from "node:fs";
import { cpioNewc, type Entry } from "./cpio.ts";
import type { Modules } from "./modules.ts";
import type { Recipe } from "./recipe.ts";

/** The commands of busybox that `init` uses. */
const APPLETS = ["sh", "mount", "umount", "mkdir", "sleep", "insmod", "reboot", "switch_root", "cp"];
/** Folders that `init` needs: mount points, and places for the programs and modules. */
const FOLDERS = ["bin", "dev", "proc", "sys", "modules", "lower", "layer", "root"];

/**
 * The archive that the kernel unpacks, compressed with zstd (CONFIG_RD_ZSTD).
 * @param busybox path of the statically linked busybox: the initramfs has no libraries.
 * @throws WaltError when the kernel lacks one of the early modules.
 */
export async function buildInitramfs(recipe: Recipe, modules: Modules, busybox: string): Promise<Buffer> {
  const early = await modules.closure(recipe.modules.early);
  const file = (path: string, data: string | Uint8Array, mode = 0o644): Entry => ({
    path,
    type: "file",
    data,
    mode,
  });
  return Bun.zstdCompressSync(
    cpioNewc([
      ...FOLDERS.map((path): Entry => ({ path, type: "folder" })),
      { path: "dev/console", type: "device", major: 5, minor: 1 },
      file("bin/busybox", readFileSync(busybox), 0o755),
      ...APPLETS.map((name): Entry => ({ path: `bin/${name}`, type: "link", target: "busybox" })),
      ...early.map(({ name, data }) => file(`modules/${name}.ko`, data)),
      file("modules/order", early.map(({ name }) => `${name}.ko\n`).join("")),
      ...recipe.initramfsFiles.map((one) => file(one.path, one.text, one.executable ? 0o755 : 0o644)),
    ]),
    { level: 19 },
  );
}
