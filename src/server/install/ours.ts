/** Decides by their content, and not by their names alone, which files on a machine are ours. */

import { Database } from "bun:sqlite";
import {
  copyFileSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { openFile, readTextIfAny, temporaryFolder } from "../../linux/files.ts";
import { MAX_LINE } from "../../ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../ssh/keys/key-files.ts";
import { kindOf, statIfAny } from "./machine.ts";

/** Absent, ours, or of another program; `what` describes it in words. */
export type Finding = { is: "absent" } | { is: "ours" } | { is: "foreign"; what: string };

const ABSENT: Finding = { is: "absent" };
const OURS: Finding = { is: "ours" };
const foreign = (what: string): Finding => ({ is: "foreign", what });

/** Bytes of a file that are read at once. */
const PIECE = 1 << 20;

/** Every version of the unit has this in its first line, and with the unit every version of the program. */
const MARK = "Changes belong into a drop-in: systemctl edit walt-";
const FIRST_LINE = /^# Written by `walt(-vpn)? server install`\. /;
const EXEC_START = /^ExecStart="\/usr\/local\/bin\/walt(-vpn)?" server run --config /m;

/** The service's unit: ours has our first line and starts our program. */
export function lookAtUnit(path: string): Finding {
  return lookAtUnitFile(path, EXEC_START);
}

/** A unit for DHCP: ours has our first line. */
export function lookAtDhcpUnit(path: string): Finding {
  return lookAtUnitFile(path, FIRST_LINE);
}

/** @param has what ours has beside its first line. */
function lookAtUnitFile(path: string, has: RegExp): Finding {
  const stat = statIfAny(path);
  if (stat === undefined) return ABSENT;
  if (!stat.isFile()) return foreign(kindOf(path, stat));
  const text = readTextIfAny(path) ?? "";
  const [first = ""] = text.split("\n");
  if (FIRST_LINE.test(first) && first.includes(MARK) && has.test(text)) return OURS;
  const description = /^Description=(.*)$/m.exec(text)?.[1];
  return foreign(`the unit ${JSON.stringify(description ?? "without a description")}`);
}

/**
 * A command: ours is an ELF program that has our unit inside.
 * @param own the running program, which is not searched if it is the one at `path`
 */
export function lookAtCommand(path: string, own?: string): Finding {
  const stat = statIfAny(path);
  if (stat === undefined) return ABSENT;
  if (!stat.isFile()) return foreign(kindOf(path, stat));
  if (own !== undefined && realpathSync(path) === realpathSync(own)) return OURS;
  const [head] = pieces(path, 0);
  if (head?.toString("latin1", 0, 4) !== "\x7fELF") return foreign("a script or another file");
  for (const piece of pieces(path, MARK.length)) if (piece.includes(MARK)) return OURS;
  return foreign("another program");
}

/** Whether two files have the same content. They are read in pieces, because a program has some 100 MB. */
export function sameContent(a: string, b: string): boolean {
  if (statSync(a).size !== statSync(b).size) return false;
  const other = pieces(b, 0);
  for (const piece of pieces(a, 0)) {
    const { value } = other.next();
    if (value === undefined || !piece.equals(value)) return false;
  }
  return true;
}

/**
 * A file's content in pieces of at most 1 MiB. Each begins with the last `overlap` bytes of the piece before.
 */
function* pieces(path: string, overlap: number): Generator<Buffer, undefined> {
  using file = openFile(path, "r");
  for (let at = 0; ; ) {
    const piece = Buffer.alloc(PIECE);
    const length = readSync(file.fd, piece, 0, PIECE, at);
    if (length === 0) return;
    yield piece.subarray(0, length);
    if (length <= overlap) return;
    at += length - overlap;
    if (length < PIECE) return;
  }
}

/**
 * The short name of our command: ours is a link to the long name beside it, or a program of an earlier
 * version.
 */
export function lookAtLink(path: string, target: string): Finding {
  const isOurs = statIfAny(path)?.isSymbolicLink() === true && readlinkSync(path) === target;
  return isOurs ? OURS : lookAtCommand(path);
}

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
