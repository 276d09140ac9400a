/** The files of a package in a folder, with times that are always the same. */

import { chmodSync, lutimesSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A file or link of a package, by its path without the leading slash. */
export interface Entry {
  readonly path: string;
  readonly content: string | Uint8Array | { readonly link: string };
  /** 0644 unless given. */
  readonly mode?: number;
}

/** @param time of all files and folders, seconds since 1970 (SOURCE_DATE_EPOCH). */
export function writeTree(root: string, entries: readonly Entry[], time: number): void {
  mkdirSync(root, { recursive: true });
  for (const { path, content, mode = 0o644 } of entries) {
    const at = join(root, path);
    mkdirSync(dirname(at), { recursive: true });
    if (typeof content === "object" && "link" in content) symlinkSync(content.link, at);
    else {
      writeFileSync(at, content);
      chmodSync(at, mode);
    }
  }
  settle(root, time);
}

function settle(path: string, time: number): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inside = join(path, entry.name);
    if (entry.isDirectory()) settle(inside, time);
    else lutimesSync(inside, time, time);
  }
  // Whatever the umask was.
  chmodSync(path, 0o755);
  lutimesSync(path, time, time);
}
