/**
 * Errors of the system in words: a full disk, a file of another user, a damaged database. They say what is
 * wrong with the machine, and are no mistakes of this program.
 */

import { codeOf, messageOf, WaltError } from "./errors.ts";

/** What to do about an error number (errno(3)). */
const CURES: Readonly<Record<string, string>> = {
  ENOSPC:
    "Make room on the disk (df -h, df -i). For a watch of files: raise fs.inotify.max_user_watches (sysctl -w).",
  EDQUOT: "The quota of this user is used up: make room, or raise it.",
  EROFS: "The file system is read-only. If it should not be, dmesg says whether the disk has errors.",
  EIO: "The disk gives errors: see dmesg, and save what is on it.",
  EMFILE:
    "This process has no file descriptors left: raise LimitNOFILE of the service (ulimit -n). For a watch of files: raise fs.inotify.max_user_instances.",
  ENFILE: "The machine has no file descriptors left: raise fs.file-max (sysctl -w), or end what has them.",
  ENOMEM: "No memory is left: free -m shows how much there is. See MemoryMax of the service as well.",
  EAGAIN:
    "No process can be made now: there are as many as the limit allows (TasksMax of the service, ulimit -u).",
  EACCES: "See with `ls -ld` whose it is. It must belong to the user that walt runs as.",
  EPERM: "See with `ls -ld` whose it is, and which rights the service has (systemctl cat walt-vpn).",
  ENOENT: "Is it there, and in the PATH if it is a program?",
};

/** What has run out says more than what was to be done with it: its cure takes the place of any other hint. */
const RUN_OUT: readonly string[] = ["EMFILE", "ENFILE", "ENOMEM", "EAGAIN"];

/** What SQLite says (https://www.sqlite.org/rescode.html), by the beginning of its code, and what to do. */
const SQLITE: readonly (readonly [code: string, what: string, cure: string])[] = [
  [
    "SQLITE_BUSY",
    "another program holds the database",
    "`fuser -v` on the file shows which one. End it, or wait until it is done.",
  ],
  [
    "SQLITE_FULL",
    "no room is left on the disk for the database",
    "Make room (df -h): what is registered stays as it is.",
  ],
  [
    "SQLITE_READONLY",
    "the database may not be written",
    "See with `ls -l` whose the file and its folder are. They must belong to the user that walt runs as.",
  ],
  [
    "SQLITE_CANTOPEN",
    "the database cannot be opened",
    "See with `ls -l` whose the file and its folder are. They must belong to the user that walt runs as.",
  ],
  ["SQLITE_IOERR", "the disk gives errors under the database", "See dmesg, and save what is on the disk."],
  ["SQLITE_NOMEM", "no memory is left for the database", "free -m shows how much there is."],
  ["SQLITE_CORRUPT", "the database is damaged", "`walt server restore` puts back a copy of the registry."],
  ["SQLITE_NOTADB", "the database is damaged", "`walt server restore` puts back a copy of the registry."],
];

/** Whether SQLite says that pages of the database are damaged. */
export function isDamage(error: unknown): boolean {
  return /^SQLITE_(CORRUPT|NOTADB)/.test(codeOf(error) ?? "");
}

/** Whether another program holds the database. */
export function isLocked(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error) ?? "");
}

/** An error for people: what was thrown if it is one, or made of an error of the system; else undefined. */
export function explained(error: unknown): WaltError | undefined {
  if (error instanceof WaltError) return withCure(error);
  const code = codeOf(error) ?? "";
  const database = SQLITE.find(([beginning]) => code.startsWith(beginning));
  if (database !== undefined) {
    const [, what, hint] = database;
    return new WaltError(`${what} (${messageOf(error)})`, { hint, cause: error });
  }
  // The codes of Node.js's own errors, which are mistakes of ours, begin with `ERR_`.
  if (!(error instanceof Error) || !/^E[A-Z0-9]+$/.test(code) || !("syscall" in error)) return undefined;
  const hint = CURES[code];
  return new WaltError(messageOf(error), { ...(hint === undefined ? {} : { hint }), cause: error });
}

/** The error, with what to do about the error of the system that caused it, if there is one. */
function withCure(error: WaltError): WaltError {
  const code = codeOf(error.cause) ?? "";
  const hint = error.hint === undefined || RUN_OUT.includes(code) ? CURES[code] : undefined;
  const { message, exitCode, cause } = error;
  return hint === undefined ? error : new WaltError(message, { hint, exitCode, cause });
}

/** What was thrown, in words for the log: an error of the system with what to do. */
export function reasonOf(error: unknown): string {
  const known = error instanceof WaltError ? undefined : explained(error);
  return known === undefined ? messageOf(error) : [known.message, known.hint].filter(Boolean).join(". ");
}
