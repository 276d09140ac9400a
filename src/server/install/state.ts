/** Decides by their content, and not by their names alone, which folders on a machine are the server's. */

import { Database } from "bun:sqlite";
import { copyFileSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { kindOf, statIfAny } from "../../install/machine.ts";
import { ABSENT, type Finding, foreign, OURS } from "../../install/ours.ts";
import { readTextIfAny, temporaryFolder } from "../../linux/files.ts";
import { MAX_LINE } from "../../ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../ssh/keys/key-files.ts";

/** The registry's tables, and the columns of each that every version has. */
const TABLES = {
  devices: ["node", "mac", "board_mac", "model", "public_key", "accepted_at", "revoked_at"],
  certificates: ["serial", "device_id", "issued_at", "expires_at"],
};
const SQLITE_HEADER = "SQLite format 3\0";

/**
 * A registry: ours is a SQLite database with our tables. A copy is read, because SQLite may write beside a
 * file that it opens.
 */
export function lookAtRegistry(path: string): Finding {
  const stat = statIfAny(path);
  if (stat === undefined) return ABSENT;
  if (!stat.isFile()) return foreign(kindOf(path, stat));
  const folder = temporaryFolder("walt-registry-");
  try {
    const copy = join(folder, "registry.sqlite");
    try {
      for (const end of ["", "-wal"]) {
        if (statIfAny(path + end)?.isFile()) copyFileSync(path + end, copy + end);
      }
    } catch (error) {
      throw new WaltError(`cannot copy ${path} to look at it: ${messageOf(error)}`, {
        hint: "Set TMPDIR to a folder in which you may write, on a file system with room for a copy.",
        cause: error,
      });
    }
    if (readFileSync(copy).subarray(0, 16).toString("latin1") !== SQLITE_HEADER)
      return foreign("no SQLite database");
    const db = new Database(copy);
    try {
      const fits = Object.entries(TABLES).every(([table, columns]) => {
        const found = db
          .query<{ name: string }, [string]>("SELECT name FROM pragma_table_info(?)")
          .all(table)
          .map(({ name }) => name);
        return columns.every((column) => found.includes(column));
      });
      return fits ? OURS : foreign("a SQLite database with other tables");
    } finally {
      db.close();
    }
  } catch (error) {
    if (error instanceof WaltError) throw error;
    return foreign("a SQLite database that cannot be read");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Names of the server's private keys below `keys/`; each has its public half beside it. */
export const KEYS = ["ca", "host", "enrolment"] as const;

/** A folder of keys: ours has all three, each of our kind. Other files may be in it. */
export function lookAtKeys(folder: string): Finding {
  const found = KEYS.filter((name) => statIfAny(join(folder, name)) !== undefined);
  if (found.length === 0) return ABSENT;
  const good = found.filter((name) => {
    try {
      parsePrivateKey(readTextIfAny(join(folder, name), MAX_LINE) ?? "", name);
      return true;
    } catch {
      return false;
    }
  });
  if (good.length === KEYS.length) return OURS;
  return foreign(
    `a folder of keys in which ${KEYS.filter((name) => !good.includes(name)).join(", ")} is none of ours`,
  );
}

/** Entries of the state folder that do not come from a server: boot files, and a relay's host key. */
const NEUTRAL = ["boot", "proxy_host_key", "proxy_host_key.pub"];

/**
 * The server's folder: ours has our registry or keys. One that is empty, or has only `NEUTRAL` entries,
 * counts as absent.
 */
export function lookAtState(folder: string): Finding {
  const stat = statIfAny(folder);
  if (stat === undefined) return ABSENT;
  let names: string[];
  try {
    names = readdirSync(folder); // a link to another folder is allowed
  } catch {
    return foreign(kindOf(folder, stat));
  }
  if (names.every((name) => NEUTRAL.includes(name))) return ABSENT;
  const parts = [lookAtRegistry(join(folder, "registry.sqlite")), lookAtKeys(join(folder, "keys"))];
  const wrong = parts.find((part) => part.is === "foreign");
  if (wrong !== undefined) return wrong;
  return parts.some((part) => part.is === "ours")
    ? OURS
    : foreign(`a folder with ${names.slice(0, 3).join(", ")}`);
}

/** The folder of the running server's sockets: ours is empty or has a socket of ours. */
export function lookAtRun(folder: string): Finding {
  const stat = statIfAny(folder);
  if (stat === undefined) return ABSENT;
  if (!stat.isDirectory()) return foreign(kindOf(folder, stat));
  const names = readdirSync(folder);
  if (names.length === 0 || names.some((name) => statIfAny(join(folder, name))?.isSocket())) return OURS;
  return foreign(`a folder with ${names.slice(0, 3).join(", ")}`);
}
