/**
 * Puts a node's image where the server's boot service looks for it:
 * `<folder>/<architecture>/{vmlinuz,initrd.img,cmdline}`.
 */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { makeFolders, writeFileAtomic } from "../../linux/files.ts";
import { cpioNewc } from "../base/cpio.ts";
import type { NodeImage } from "./build.ts";

/** Beside the boot files: the image's record, which shows that the files were written here. */
const RECORD = "image.json";

/** The paths of boot files. */
function bootFiles(folder: string, { architecture }: Pick<NodeImage, "architecture">) {
  const place = join(folder, architecture.ipxe);
  const [vmlinuz, initrd] = [join(place, "vmlinuz"), join(place, "initrd.img")];
  return { place, vmlinuz, initrd, cmdline: join(place, "cmdline"), record: join(place, RECORD) };
}

/** @throws WaltError when the folder has boot files that were not written by `writeBootFiles`. */
export function refuseForeign(folder: string, image: Pick<NodeImage, "architecture">): void {
  const { vmlinuz, initrd, record, place } = bootFiles(folder, image);
  const found = [vmlinuz, initrd].find((file) => existsSync(file));
  if (found === undefined || existsSync(record)) return;
  throw new WaltError(`${found} exists and is not of an image that this command has written`, {
    hint: `Move the folder ${place} away, or name another one with -o.`,
  });
}

/**
 * Write the boot files, readable for everybody. Files of an earlier image are replaced: a node that boots at
 * that moment may get parts of both, and restarts.
 * @param keys content of `authorized_keys`: whoever has one of these keys may log in as root.
 * @returns the folder of the files, and the bytes that a node loads.
 * @throws WaltError as `refuseForeign`, or when a file cannot be written.
 */
export function writeBootFiles(
  image: NodeImage,
  folder: string,
  keys: string,
): { place: string; size: number } {
  refuseForeign(folder, image);
  const { place, vmlinuz, initrd, cmdline, record } = bootFiles(folder, image);
  try {
    makeFolders(place, 0o755);
  } catch (error) {
    throw new WaltError(`cannot make the folder ${place}: ${messageOf(error)}`, { cause: error });
  }
  const [kernel, system] = [readFileSync(image.kernel), readFileSync(image.initramfs)];
  const login = cpioNewc([{ path: "authorized_keys", type: "file", data: keys, mode: 0o600 }]);
  writeFileAtomic(record, readFileSync(image.recordFile), { mode: 0o644 });
  writeFileAtomic(initrd, Buffer.concat([login, system]), { mode: 0o644 });
  writeFileAtomic(vmlinuz, kernel, { mode: 0o644 });
  writeFileAtomic(cmdline, image.cmdline, { mode: 0o644 });
  return { place, size: kernel.length + login.length + system.length };
}
