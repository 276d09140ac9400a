/** The recipe of the device's operating system: the files of `device/`, parsed. */

import { createHash } from "node:crypto";
import { WaltError } from "../../errors.ts";
import { readRecipe } from "./recipe-macro.ts" with { type: "macro" };
import type { RecipeFile } from "./recipe-macro.ts";

export type { RecipeFile };

const FILES: readonly RecipeFile[] = readRecipe();

/** A line of one of the lists: its first word, and the others. */
export interface ListLine {
  kind: string;
  words: readonly string[];
}

/** The lines of a list: `#` begins a comment. @throws WaltError at a kind that is not one of `kinds`. */
export function parseList(text: string, name: string, kinds: readonly string[]): ListLine[] {
  const lines: ListLine[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const [kind, ...words] = line
      .replace(/(^|\s)#.*/, "")
      .split(/\s+/)
      .filter((word) => word !== "");
    if (kind === undefined) continue;
    if (!kinds.includes(kind) || words.length === 0) {
      throw new WaltError(
        `device/${name}, line ${index + 1}: ${JSON.stringify(line)}: begins with none of ${kinds.join(", ")}, or has nothing behind it`,
      );
    }
    lines.push({ kind, words });
  }
  return lines;
}

export const MODULE_KINDS = ["early", "boot", "network", "late"] as const;
export type ModuleKind = (typeof MODULE_KINDS)[number];

export interface Recipe {
  packages: {
    suites: readonly string[];
    security: readonly string[];
    components: readonly string[];
    withDependencies: readonly string[];
    alone: readonly string[];
  };
  /** What the root has of the packages: absolute paths. */
  root: readonly { kind: "program" | "library" | "file"; path: string }[];
  /** `device/modules.txt`: when each is loaded. */
  modules: Readonly<Record<ModuleKind, readonly string[]>>;
  firmware: readonly { kind: "firmware" | "dtb"; name: string }[];
  applets: readonly { kind: "bin" | "sbin"; name: string }[];
  configTxt: string;
  cmdlineTxt: string;
  /** Files of the initramfs and of the root; paths relative to them. */
  initramfsFiles: readonly RecipeFile[];
  rootFiles: readonly RecipeFile[];
  /** SHA-256 over all of it, hex. */
  hash: string;
}

/** The recipe that is inside this program. @throws WaltError when it is malformed. */
export function loadRecipe(files: readonly RecipeFile[] = FILES): Recipe {
  const text = (path: string): string => {
    const found = files.find((file) => file.path === path);
    if (found === undefined) throw new WaltError(`device/${path} is missing`);
    return found.text;
  };
  const list = <K extends string>(name: string, kinds: readonly K[]) => {
    const lines = parseList(text(name), name, kinds);
    return (kind: K): string[] => lines.filter((line) => line.kind === kind).flatMap((line) => line.words);
  };
  const within = (folder: string): RecipeFile[] =>
    files
      .filter((file) => file.path.startsWith(`${folder}/`))
      .map((file) => ({ ...file, path: file.path.slice(folder.length + 1) }));

  const packages = list("packages.txt", ["suite", "security", "components", "with-dependencies", "alone"]);
  const rootKinds = ["program", "library", "file"] as const;
  const root = list("root.txt", rootKinds);
  const modules = list("modules.txt", MODULE_KINDS);
  const firmwareKinds = ["firmware", "dtb"] as const;
  const firmware = list("firmware.txt", firmwareKinds);
  const appletKinds = ["bin", "sbin"] as const;
  const applets = list("applets.txt", appletKinds);
  return {
    packages: {
      suites: packages("suite"),
      security: packages("security"),
      components: packages("components"),
      withDependencies: packages("with-dependencies"),
      alone: packages("alone"),
    },
    root: rootKinds.flatMap((kind) => root(kind).map((path) => ({ kind, path }))),
    modules: {
      early: modules("early"),
      boot: modules("boot"),
      network: modules("network"),
      late: modules("late"),
    },
    firmware: firmwareKinds.flatMap((kind) => firmware(kind).map((name) => ({ kind, name }))),
    applets: appletKinds.flatMap((kind) => applets(kind).map((name) => ({ kind, name }))),
    configTxt: text("config.txt"),
    cmdlineTxt: text("cmdline.txt"),
    initramfsFiles: within("initramfs"),
    rootFiles: within("root"),
    hash: hashOf(files),
  };
}

function hashOf(files: readonly RecipeFile[]): string {
  const hash = createHash("sha256");
  for (const { path, executable, text } of files) hash.update(`${path}\0${executable}\0${text}\0`);
  return hash.digest("hex");
}
