/**
 * The plug-in for WalT's own client: two Python modules in WalT's environment, by which its `walt vpn …` runs ours.
 * A client finds categories of commands in the modules of `walt.client.metadata`.
 */

import { existsSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { WaltError } from "../../errors.ts";
import { type Machine, statIfAny } from "../../install/machine.ts";
import { readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import category from "./plugin/category.py" with { type: "text" };
import metadata from "./plugin/metadata.py" with { type: "text" };

/** By their first line our modules are told from those of others. */
const [MARK = ""] = metadata.split("\n");
/** Another module that has the category. */
const HAS_CATEGORY = /\(\s*["']vpn["']\s*,/;

/** The folder of the package `walt.client` in the environment of a command. */
function packageOf(command: string): string | undefined {
  const libraries = join(dirname(command), "../lib");
  if (statIfAny(libraries)?.isDirectory() !== true) return undefined;
  for (const python of readdirSync(libraries).filter((one) => /^python3(\.\d+)?$/.test(one))) {
    for (const packages of ["site-packages", "dist-packages"]) {
      const folder = join(libraries, python, packages, "walt/client");
      if (statIfAny(join(folder, "metadata"))?.isDirectory() === true) return folder;
    }
  }
  return undefined;
}

/** That which a client on this machine uses. */
function usedFolder(root: string): string | undefined {
  for (const name of ["usr/local/bin/walt", "usr/bin/walt"]) {
    const command = join(root, name);
    // WalT's set-up links the command to the one in its environment: <environment>/bin/walt.
    const folder = existsSync(command) ? packageOf(realpathSync(command)) : undefined;
    if (folder !== undefined) return folder;
  }
  return undefined;
}

/** Those of other environments: each version of WalT has its own, in /opt. */
function otherFolders(root: string): string[] {
  const used = usedFolder(root);
  const place = join(root, "opt");
  const names = statIfAny(place)?.isDirectory() === true ? readdirSync(place) : [];
  const commands = names.map((name) => join(place, name, "bin/walt")).filter((path) => existsSync(path));
  const folders = new Set(commands.map((path) => packageOf(realpathSync(path))));
  return [...folders].filter((folder): folder is string => folder !== undefined && folder !== used);
}

/** @throws WaltError when there is no client. */
function clientFolder({ root }: Machine): string {
  const folder = usedFolder(root);
  if (folder !== undefined) return folder;
  throw new WaltError(
    "WalT's client is not on this machine: /usr/local/bin/walt leads to no package walt.client",
    {
      hint: "Without it there is nothing to plug into: say walt-vpn.",
    },
  );
}

/** Where the plug-in is, when it is only in environments that the client no longer uses. */
export function lostPlugin(root: string): string | undefined {
  const used = usedFolder(root);
  const has = (folder: string): boolean => filesOf(folder).every(([path]) => isOurs(path));
  return used === undefined || has(used) ? undefined : otherFolders(root).find(has);
}

const isOurs = (path: string): boolean => readTextIfAny(path)?.startsWith(MARK) === true;

/** The plug-in's files, and their text. */
function filesOf(folder: string): readonly (readonly [path: string, text: string])[] {
  return [
    [join(folder, "walt_vpn.py"), category],
    [join(folder, "metadata/walt_vpn.py"), metadata], // the last one makes the client use it
  ];
}

/** @throws WaltError when a file with the name of ours is another's. */
function refuseForeign(folder: string): void {
  for (const [path] of filesOf(folder)) {
    const text = readTextIfAny(path);
    if (text !== undefined && !text.startsWith(MARK)) throw new WaltError(`${path} is not ours`);
  }
}

/**
 * Install the plug-in, or a newer one.
 * @param replace whether it may take the place of a category `vpn` that the client has already.
 * @returns what was done, a line for each file.
 * @throws WaltError when there is no client, something is in the way, or the client has the category.
 */
export function installPlugin(machine: Machine, replace: boolean): string[] {
  const folder = clientFolder(machine);
  refuseForeign(folder);
  const other = readdirSync(join(folder, "metadata")).find(
    (name) =>
      name.endsWith(".py") &&
      name !== "walt_vpn.py" &&
      HAS_CATEGORY.test(readTextIfAny(join(folder, "metadata", name)) ?? ""),
  );
  if (other !== undefined && !replace) {
    throw new WaltError(`WalT's client has a category vpn of its own (${join(folder, "metadata", other)})`, {
      hint: "It is WalT's own VPN. To have ours in its place: walt-vpn server install --plugin --replace",
    });
  }
  return filesOf(folder).map(([path, text]) => {
    if (readTextIfAny(path) === text) return `${path}: unchanged`;
    writeFileAtomic(path, text, { mode: 0o644 });
    return `${path}: written`;
  });
}

/**
 * Remove the plug-in, also from environments that the client no longer uses.
 * @returns what was done. @throws WaltError as `installPlugin`.
 */
export function removePlugin(machine: Machine): string[] {
  const folder = clientFolder(machine);
  refuseForeign(folder);
  return [folder, ...otherFolders(machine.root)]
    .flatMap((one) => filesOf(one).toReversed())
    .filter(([path]) => isOurs(path))
    .map(([path]) => {
      rmSync(path);
      return `${path}: removed`;
    });
}
