/**
 * Copies of the registry in `copies/` beside it, one a day: made by SQLite, verified, and put there by a rename.
 * And the way back: a copy takes the place of a damaged registry.
 */

import { Database } from "bun:sqlite";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  fsyncSync,
  readdirSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders, openFile, syncFolder } from "../linux/files.ts";

/** Days of which there is a copy. */
const KEPT = 7;
const NAME = /^registry-\d{4}-\d\d-\d\d\.sqlite$/;

/** By so much the next serial number of a certificate is raised: the copy does not know the last ones. */
const SERIALS = 1_000_000;

export interface Copy {
  readonly path: string;
  /** When it was taken. */
  readonly taken: Date;
}

/** What SQLite's own check says: `ok`, or the first thing that is damaged. */
export function checkOf(db: Database): string {
  return db.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check ?? "no answer";
}

/** The copies of a registry, the newest first. @param state the folder with the registry. */
export function copiesOf(state: string): Copy[] {
  const folder = join(state, "copies");
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => NAME.test(name));
  } catch {
    return []; // there are none yet, or this user may not see them
  }
  return names
    .sort()
    .toReversed()
    .map((name) => ({ path: join(folder, name), taken: statSync(join(folder, name)).mtime }));
}

/**
 * Take a copy, in the place of an earlier one of the same day (UTC). If that fails, the earlier one stays.
 * @param copyTo writes all of the registry into a new file.
 * @throws WaltError when the copy is damaged; the error of the database or of the system.
 */
export function takeCopy(state: string, copyTo: (file: string) => void, now: Date): Copy {
  const folder = join(state, "copies");
  makeFolders(folder, 0o700);
  const path = join(folder, `registry-${now.toISOString().slice(0, 10)}.sqlite`);
  const temp = `${path}.new`;
  const umask = process.umask(0o077);
  try {
    rmSync(temp, { force: true });
    copyTo(temp);
    const { damage } = lookAtCopy(temp);
    if (damage !== undefined) throw new WaltError(`the copy ${temp} is damaged: ${damage}`);
    replace(temp, path, folder);
  } finally {
    process.umask(umask);
    rmSync(temp, { force: true });
  }
  for (const { path: old } of copiesOf(state).slice(KEPT)) rmSync(old, { force: true });
  return { path, taken: statSync(path).mtime };
}

/** What is in a copy. */
export interface Looked {
  /** What is damaged; undefined if nothing is. */
  readonly damage: string | undefined;
  /** Devices that are not revoked; 0 if it is damaged. */
  readonly devices: number;
}

/** Read a copy from its beginning to its end. It never throws. */
export function lookAtCopy(path: string): Looked {
  try {
    using db = new Database(path, { readonly: true, strict: true });
    const found = checkOf(db);
    if (found !== "ok") return { damage: found, devices: 0 };
    const sql = "SELECT count(*) AS n FROM devices WHERE revoked_at IS NULL";
    return { damage: undefined, devices: db.query<{ n: number }, []>(sql).get()?.n ?? 0 };
  } catch (error) {
    return { damage: messageOf(error), devices: 0 };
  }
}

/** The newest copy that is whole; undefined if there is none. */
export function newestWhole(state: string): (Copy & Looked) | undefined {
  for (const copy of copiesOf(state)) {
    const looked = lookAtCopy(copy.path);
    if (looked.damage === undefined) return { ...copy, ...looked };
  }
  return undefined;
}

/** What a restored registry is. */
export interface Restored extends Copy {
  /** Devices that are not revoked. */
  readonly devices: number;
  /** Where the registry from before is now; undefined if there was none. */
  readonly before: string | undefined;
}

/**
 * Put the newest copy that is whole in the place of the registry. What was there is kept beside it. The server
 * must not run.
 * @throws WaltError when there is no such copy; the error of the system.
 */
export function restoreCopy(state: string, now: Date): Restored {
  const whole = newestWhole(state);
  if (whole === undefined) {
    const count = copiesOf(state).length;
    const found = count === 0 ? "there is none" : `all ${count} are damaged`;
    throw new WaltError(`no copy of the registry in ${join(state, "copies")} can be used: ${found}`, {
      hint: "Restore a backup: walt server restore FILE. Nothing was changed.",
    });
  }
  const before = putRegistry(state, now, (file) => copyFileSync(whole.path, file));
  return { path: whole.path, taken: whole.taken, devices: whole.devices, before };
}

/**
 * Put another registry in the place of the one that is there, which is kept beside it. The server must not run.
 * @param write writes the other one into a file that does not exist.
 * @returns where the registry from before is now; undefined if there was none.
 */
export function putRegistry(state: string, now: Date, write: (file: string) => void): string | undefined {
  const path = join(state, "registry.sqlite");
  const temp = `${path}.new`;
  const umask = process.umask(0o077);
  try {
    for (const end of ["", "-wal", "-shm", "-journal"]) rmSync(temp + end, { force: true });
    write(temp);
    raiseSerials(temp);
    own(temp, statSync(state));
    const before = moveAway(path, now);
    replace(temp, path, state);
    return before;
  } finally {
    process.umask(umask);
    rmSync(temp, { force: true });
  }
}

function raiseSerials(file: string): void {
  using db = new Database(file, { strict: true });
  db.run(`UPDATE sqlite_sequence SET seq = seq + ${SERIALS} WHERE name = 'certificates'`);
}

/** The file belongs to whoever the folder belongs to: the service's user, if root restores. */
function own(file: string, { uid, gid }: Stats): void {
  if (process.geteuid?.() === 0) chownSync(file, uid, gid);
  chmodSync(file, 0o600);
}

/** Move the registry and what SQLite has beside it out of the way. @returns where it is now. */
function moveAway(path: string, now: Date): string | undefined {
  const before = `${path}.before-${now.toISOString().replaceAll(":", "")}`;
  let moved: string | undefined;
  // The log first: beside another database it would be taken for that one's.
  for (const end of ["-wal", "-shm", ""]) {
    if (statSync(path + end, { throwIfNoEntry: false }) === undefined) continue;
    renameSync(path + end, before + end);
    moved = before;
  }
  return moved;
}

function replace(temp: string, path: string, folder: string): void {
  {
    using file = openFile(temp, "r");
    fsyncSync(file.fd);
  }
  renameSync(temp, path);
  syncFolder(folder);
}
