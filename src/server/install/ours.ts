/** What is ours on a machine, and what is not: told by content, never by the name alone. */

import { Database } from "bun:sqlite";
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFile, readTextIfAny } from "../../linux/files.ts";
import { MAX_LINE } from "../../ssh/keys/ed25519.ts";
import { parsePrivateKey } from "../../ssh/keys/key-files.ts";
import { kindOf, statIfAny } from "./machine.ts";

/** Nothing there, ours, or somebody else's and what it is in words. */
export type Finding = { is: "absent" } | { is: "ours" } | { is: "foreign"; what: string };

const ABSENT: Finding = { is: "absent" };
const OURS: Finding = { is: "ours" };
const foreign = (what: string): Finding => ({ is: "foreign", what });

/** Bytes of a file that are looked at at once. */
const PIECE = 1 << 20;

/** Every version of the unit has this in its first line, and with the unit every version of the program. */
const MARK = "Changes belong into a drop-in: systemctl edit walt-";
const FIRST_LINE = /^# Written by `walt(-vpn)? server install`\. /;
const EXEC_START = /^ExecStart="\/usr\/local\/bin\/walt(-vpn)?" server run --config /m;

/** A unit of systemd: ours has our first line and starts our program. */
export function lookAtUnit(path: string): Finding {
  const stat = statIfAny(path);
  if (stat === undefined) return ABSENT;
  if (!stat.isFile()) return foreign(kindOf(path, stat));
  const text = readTextIfAny(path) ?? "";
  const [first = ""] = text.split("\n");
  if (FIRST_LINE.test(first) && first.includes(MARK) && EXEC_START.test(text)) return OURS;
  const description = /^Description=(.*)$/m.exec(text)?.[1];
  return foreign(`the unit ${JSON.stringify(description ?? "without a description")}`);
}

/**
 * A command: ours is an ELF program that has our unit inside.
 * @param own the program that runs, which need not be searched where it is the one at `path`
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

/** Whether two files have the same content. A program has some 100 MB, so that it is not read as a whole. */
export function sameContent(a: string, b: string): boolean {
  if (statSync(a).size !== statSync(b).size) return false;
  const other = pieces(b, 0);
  for (const piece of pieces(a, 0)) {
    const { value } = other.next();
    if (value === undefined || !piece.equals(value)) return false;
  }
  return true;
}

/** A file's content in pieces of at most 1 MiB, each of which begins with the last `overlap` bytes of the one before. */
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

/** The short name of our command: ours is a link to the long name beside it, or a program of an earlier version. */
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

/** A registry: ours is a SQLite database with our tables. It is read from a copy, as SQLite may write beside what it opens. */
export function lookAtRegistry(path: string): Finding {
  const stat = statIfAny(path);
  if (stat === undefined) return ABSENT;
  if (!stat.isFile()) return foreign(kindOf(path, stat));
  const folder = mkdtempSync(join(tmpdir(), "walt-registry-"));
  try {
    const copy = join(folder, "registry.sqlite");
    for (const end of ["", "-wal"]) {
      if (statIfAny(path + end)?.isFile()) copyFileSync(path + end, copy + end);
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
  } catch {
    return foreign("a SQLite database that cannot be read");
  } finally {
    rmSync(folder, { recursive: true });
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

/** Entries of the server's folder that need no server: boot files put there in advance, and a relay's host key. */
const NEUTRAL = ["boot", "proxy_host_key", "proxy_host_key.pub"];

/** The server's folder: ours has our registry or keys. One that is empty, or has only `NEUTRAL` entries, counts as absent. */
export function lookAtState(folder: string): Finding {
  const stat = statIfAny(folder);
  if (stat === undefined) return ABSENT;
  let names: string[];
  try {
    names = readdirSync(folder); // a link to a folder elsewhere will do
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
