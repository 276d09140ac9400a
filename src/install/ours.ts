/** Decides by their content, and not by their names alone, which commands and units on a machine are ours. */

import { readlinkSync, readSync, realpathSync, statSync } from "node:fs";
import { openFile, readTextIfAny } from "../linux/files.ts";
import { kindOf, statIfAny } from "./machine.ts";

/** Absent, ours, or of another program; `what` describes it in words. */
export type Finding = { is: "absent" } | { is: "ours" } | { is: "foreign"; what: string };

export const ABSENT: Finding = { is: "absent" };
export const OURS: Finding = { is: "ours" };
export const foreign = (what: string): Finding => ({ is: "foreign", what });

/** Bytes of a file that are read at once. */
const PIECE = 1 << 20;

/** Every version of the unit has this in its first line, and with the unit every version of the program. */
const MARK = "Changes belong into a drop-in: systemctl edit walt-";
const FIRST_LINE = /^# Written by `walt(?:-vpn)? (?:server|device) install`\. /;
const EXEC_START = /^ExecStart="\/usr\/local\/bin\/walt(?:-vpn)?" (?:server|device) run --config /m;

/** A service's unit: ours has our first line and starts our program. */
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
