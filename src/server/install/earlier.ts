/**
 * Keys and registry of an earlier version, in a folder that WalT has too, moved to the folder of this version.
 *
 * They are copied into a folder beside the new one, which gets its name when it is whole, and then the originals are removed.
 * Interrupted at any point, the next run finds either all of the originals, or the whole copy; never two that differ.
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
import { makeFolders, syncFolder, syncTree } from "../../linux/files.ts";
import { statIfAny } from "./machine.ts";
import { KEYS, lookAtKeys, lookAtRegistry, lookAtState } from "./ours.ts";

const REGISTRY = "registry.sqlite";
/** All that a server keeps, in the order in which it is removed: what tells that the rest is ours comes last. */
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
  /** Whether they have been copied already and only the originals are left to be removed. */
  copied: boolean;
}

/**
 * What of ours is in the folder of an earlier version; undefined where there is nothing. WalT's own files in it are not looked at.
 * @throws WaltError when it has keys or a registry of ours while `to` has others.
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
          hint: `Move the folder away whose devices are not to get in any more. ${from} may hold files of WalT, too.`,
        },
      );
    }
    return same.length === 0 ? undefined : { entries: same, copied: true };
  }
  return isOurs ? { entries: present, copied: false } : undefined;
}

/**
 * To be called before a server makes keys: those of an earlier version may wait for `walt server install` to move them.
 * @throws WaltError when they do.
 */
export function refuseUnmoved(from: string, to: string): void {
  if (statIfAny(join(to, "keys")) !== undefined || lookAtEarlierState(from, to) === undefined) return;
  throw new WaltError(
    `the keys and the registry of an earlier version are in ${from}, and not yet in ${to}`,
    {
      hint: "`walt server install` moves them. With new keys no device would get in any more.",
    },
  );
}

/** The name under which the copy is made. */
function stagingOf(to: string): string {
  return join(dirname(to), ".walt-vpn.moving");
}

/**
 * Copy everything. `to` appears with all of it, or not at all.
 * @throws WaltError when somebody else has the registry open; the system's error when something cannot be written.
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

/** Remove what was copied, as far as it is the same still; folders that are empty then go too, where `emptyToo`. */
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

/** Take what is in the registry's write-ahead log into its file (sqlite.org/wal.html), so that the file is all of it. */
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
