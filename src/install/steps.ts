/** The steps of an installation: planned first, then done one by one, each completely or not at all. */

import { readFileSync, realpathSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders, readTextIfAny, syncFolder, writeFileAtomic } from "../linux/files.ts";
import { type Machine, placesOf, statIfAny } from "./machine.ts";
import { type Finding, lookAtLink, sameContent } from "./ours.ts";

/** Folders in which another program may have a command `walt`, which ours must not hide. */
const COMMAND_FOLDERS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** What is said in place of command and units that a package has. */
export const PACKAGED = "command and units: of the package walt";

/** One change to the machine. */
export interface Step {
  /** What the step does, for the operator: `/etc/walt/vpn.toml: written`. */
  what: string;
  do(): void | Promise<void>;
}

export interface Plan {
  /** What needs no change, one line each. */
  found: readonly string[];
  /** The changes, in their order. */
  steps: readonly Step[];
  /** What the operator should know or do, one line each. */
  notes: readonly string[];
  /** Whether the service is started by one of the steps. */
  starts: boolean;
}

/** The program, under its long name. */
export function addCommand(
  { root, binary }: Machine,
  command: Finding["is"],
  steps: Step[],
  found: string[],
): void {
  const place = placesOf(root).command;
  const isThere =
    command === "ours" && (realpathSync(place) === realpathSync(binary) || sameContent(place, binary));
  if (isThere) found.push(`${place}: unchanged`);
  else {
    const what = `${place}: copied from ${binary}`;
    steps.push({ what, do: () => write(place, readFileSync(binary), 0o755) });
  }
}

/** The short name: a link, if no other program has this name. */
export function addLink({ root }: Machine, steps: Step[], found: string[], notes: string[]): void {
  const { link } = placesOf(root);
  const target = "walt-vpn";
  const other = COMMAND_FOLDERS.map((folder) => join(root, folder, "walt")).find(
    (path) => path !== link && statIfAny(path) !== undefined && lookAtLink(path, target).is !== "ours",
  );
  const finding = lookAtLink(link, target);
  const isLink = statIfAny(link)?.isSymbolicLink() === true;
  if (finding.is === "foreign" || (finding.is === "absent" && other !== undefined)) {
    notes.push(`${finding.is === "foreign" ? link : other} is another program: say walt-vpn for walt here.`);
  } else if (finding.is === "ours" && isLink) {
    found.push(`${link}: unchanged`);
  } else {
    steps.push({
      what: `${link}: a link to ${target}`,
      do: () => {
        const temp = `${link}.walt-vpn.new`;
        rmSync(temp, { force: true });
        symlinkSync(target, temp);
        renameSync(temp, link);
        syncFolder(dirname(link));
      },
    });
  }
}

/** Do all steps of a plan. `said` is called with each line of the result. */
export async function install(plan: Plan, said: (line: string) => void): Promise<void> {
  for (const line of plan.found) said(line);
  for (const step of plan.steps) {
    try {
      await step.do();
    } catch (error) {
      if (error instanceof WaltError) throw error;
      throw new WaltError(`cannot install: ${messageOf(error)}`, { cause: error });
    }
    said(step.what);
  }
  for (const note of plan.notes) said(`Note: ${note}`);
}

/** Write a file with its folders. */
export function write(path: string, content: string | Uint8Array, mode = 0o644): void {
  makeFolders(dirname(path), 0o755);
  writeFileAtomic(path, content, { mode });
}

/** Run a program. @throws WaltError with what the program printed, when it fails. */
export async function must(machine: Machine, command: readonly string[]): Promise<void> {
  const { status, stderr } = await machine.run(command);
  if (status !== 0) throw new WaltError(`${command.join(" ")} failed (exit ${status}): ${stderr.trim()}`);
}

/** A file with this content: unchanged, or written by a step. */
export function addFile({ path, text }: TextFile, steps: Step[], found: string[]): void {
  if (readTextIfAny(path) === text) found.push(`${path}: unchanged`);
  else steps.push({ what: `${path}: written`, do: () => write(path, text) });
}

/** A file of an installation. */
export interface TextFile {
  readonly path: string;
  readonly text: string;
}
