/** Processes of the machine, by id, as proc(5) tells them. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Parent and state of a process, or undefined when it is gone. */
function stat(pid: number): { parent: number; state: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // `pid (name) state ppid …`: the name may itself contain blanks and parentheses
  const [state = "", parent = ""] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { parent: Number(parent), state };
}

/** Ids of all processes that are alive now. */
function all(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Whether a process lives; a zombie does not. */
export function isAlive(pid: number): boolean {
  const found = stat(pid);
  return found !== undefined && found.state !== "Z" && found.state !== "X";
}

/** The children of a process. */
export function childrenOf(pid: number): number[] {
  return all().filter((other) => stat(other)?.parent === pid);
}

/** Children, their children, and so on: parents before children. */
export function descendantsOf(pid: number): number[] {
  const parents = new Map(all().map((other) => [other, stat(other)?.parent]));
  const found = [pid];
  for (const parent of found) {
    for (const [other, its] of parents) if (its === parent) found.push(other);
  }
  return found.slice(1);
}

/**
 * The processes in the same PID namespace as `pid`, itself left out, with their command lines. One that is ending has no
 * program any more and is left out.
 */
export function namespaceOf(pid: number): { pid: number; command: string }[] {
  const inside = namespaceId(pid);
  return all()
    .filter(
      (other) => other !== pid && inside !== undefined && namespaceId(other) === inside && isAlive(other),
    )
    .map((other) => ({ pid: other, command: commandLine(other) }))
    .filter(({ command }) => command !== "");
}

/** The PID namespace's own name for a process (`pid:[4026531836]`). */
function namespaceId(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/**
 * A process' command line. During execve(2) it is empty for a moment, while /proc/PID/exe names the program already: then it
 * is that name. It is empty when the process is ending.
 */
function commandLine(pid: number): string {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
    return words === "" ? readlinkSync(`/proc/${pid}/exe`) : words;
  } catch {
    return "";
  }
}

/** Send a signal; a process that is gone already is no error. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // ESRCH: it ended by itself
  }
}
