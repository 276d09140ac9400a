/**
 * Keys and registry of an earlier version, in a folder that WalT has too, moved to the folder of this
 * version.
 *
 * They are copied into a folder beside the new one. It gets its name when it is complete. Then the originals
 * are removed. After an interruption the next run finds either all originals or a complete copy, and never
 * two that differ.
 */

import { Database } from "bun:sqlite";
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { WaltError } from "../../errors.ts";
import { statIfAny } from "../../install/machine.ts";
import { makeFolders, syncFolder, syncTree } from "../../linux/files.ts";
import { KEYS, lookAtKeys, lookAtRegistry, lookAtState } from "./state.ts";

const REGISTRY = "registry.sqlite";
/**
 * Everything that a server stores, in the order in which it is removed. What identifies the rest as ours
 * comes last.
 */
const ENTRIES = [
  "dhcp.leases",
  "boot/x86_64",
  "boot/arm64",
  ...KEYS.flatMap((name) => [`keys/${name}.pub`, `keys/${name}`]),
  REGISTRY,
];

/** What an earlier version left in its folder. */
export interface EarlierState {
  /** Paths below the folder that are ours. */
  entries: readonly string[];
  /** Whether they were copied, so that only the originals must be removed. */
  copied: boolean;
}

/**
 * What an earlier version left in its folder; undefined if there is nothing. WalT's own files in it are
 * ignored.
 * @throws WaltError when `from` and `to` have different keys or registries.
 */
export function lookAtEarlierState(from: string, to: string): EarlierState | undefined {
  const present = ENTRIES.filter((entry) => statIfAny(join(from, entry)) !== undefined);
  const same = present.filter((entry) => sameTree(join(from, entry), join(to, entry)));
  const isOurs =
    lookAtRegistry(join(from, REGISTRY)).is === "ours" || lookAtKeys(join(from, "keys")).is === "ours";
  if (lookAtState(to).is === "ours") {
    const different = present.filter((entry) => !same.includes(entry) && entry !== "dhcp.leases");
    if (isOurs && different.length > 0) {
      throw new WaltError(
        `there are two different servers: in ${from} and in ${to} (${different.join(", ")})`,
        {
          hint: `Move away the folder whose devices are no longer to be accepted. ${from} may also have files of WalT.`,
        },
      );
    }
    return same.length === 0 ? undefined : { entries: same, copied: true };
  }
  return isOurs ? { entries: present, copied: false } : undefined;
}

/**
 * Call this before a server makes keys: those of an earlier version may not have been moved yet.
 * @throws WaltError if they were not moved.
 */
export function refuseUnmoved(from: string, to: string): void {
  if (statIfAny(join(to, "keys")) !== undefined || lookAtEarlierState(from, to) === undefined) return;
  throw new WaltError(
    `the keys and the registry of an earlier version are in ${from}, and not yet in ${to}`,
    {
      hint: "`walt server install` moves them. With new keys no device would be accepted.",
    },
  );
}

/** The name under which the copy is made. */
function stagingOf(to: string): string {
  return join(dirname(to), ".walt-vpn.moving");
}

/**
 * Copy everything. `to` appears completely or not at all.
 * @throws WaltError when another program has the registry open; the system's error when a file cannot be
 *   written.
 */
export function copyEarlierState(from: string, to: string, state: EarlierState): void {
  foldRegistry(join(from, REGISTRY));
  const staging = stagingOf(to);
  rmSync(staging, { recursive: true, force: true }); // what an interrupted run left: the originals are still there
  makeFolders(staging, 0o755);
  for (const entry of state.entries) {
    const folder = dirname(join(staging, entry));
    makeFolders(folder, statSync(dirname(join(from, entry))).mode & 0o777);
    cpSync(join(from, entry), join(staging, entry), {
      recursive: true,
      preserveTimestamps: true,
      verbatimSymlinks: true,
    });
  }
  syncTree(staging);
  renameSync(staging, to); // an empty folder may be in its place
  syncFolder(dirname(to));
}

/**
 * Remove the originals that are still equal to their copies; with `emptyToo` also the folders that are then
 * empty.
 */
export function removeOriginals(from: string, to: string, emptyToo: boolean): void {
  for (const entry of ENTRIES) {
    const path = join(from, entry);
    if (statIfAny(path) !== undefined && sameTree(path, join(to, entry))) rmSync(path, { recursive: true });
  }
  if (!emptyToo) return;
  for (const folder of [join(from, "keys"), join(from, "boot"), from]) {
    if (statIfAny(folder)?.isDirectory() && readdirSync(folder).length === 0) rmdirSync(folder);
  }
}

/** Write the registry's write-ahead log into its file (sqlite.org/wal.html), so that the file is complete. */
function foldRegistry(path: string): void {
  if (!existsSync(path)) return;
  const db = new Database(path);
  try {
    db.run("PRAGMA wal_checkpoint(TRUNCATE)");
  } finally {
    db.close(); // the last to close it removes the log
  }
  if ((statIfAny(`${path}-wal`)?.size ?? 0) > 0) {
    throw new WaltError(`${path} is open in another program`, {
      hint: "Stop the server of the earlier version, then run this again.",
    });
  }
  for (const end of ["-wal", "-shm"]) rmSync(path + end, { force: true });
}

/** Whether two files, two links or two folders have the same content. */
function sameTree(a: string, b: string): boolean {
  const [one, other] = [statIfAny(a), statIfAny(b)];
  if (one === undefined || other === undefined) return false;
  if (one.isDirectory() && other.isDirectory()) {
    const names = readdirSync(a).toSorted();
    return (
      names.join("\0") === readdirSync(b).toSorted().join("\0") &&
      names.every((name) => sameTree(join(a, name), join(b, name)))
    );
  }
  if (one.isSymbolicLink() && other.isSymbolicLink()) return readlinkSync(a) === readlinkSync(b);
  return one.isFile() && other.isFile() && one.size === other.size && readFileSync(a).equals(readFileSync(b));
}
