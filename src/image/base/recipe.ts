/** The recipe of the device's operating system: the files of `device/`, parsed. */

import { createHash } from "node:crypto";
import { WaltError } from "../../errors.ts";
import { readRecipe } from "./recipe-macro.ts" with { type: "macro" };
import type { RecipeFile } from "./recipe-macro.ts";

export type { RecipeFile };

const FILES: readonly RecipeFile[] = readRecipe();

/** A line of one of the lists (`device/*.txt`): its first word, and the other words. */
export interface ListLine {
  kind: string;
  words: readonly string[];
}

/**
 * The lines of a list. `#` begins a comment; empty lines are left out.
 * @param name of the file in `device/`, for messages.
 * @throws WaltError when a line does not begin with one of `kinds`, or has only one word.
 */
export function parseList(text: string, name: string, kinds: readonly string[]): ListLine[] {
  const lines: ListLine[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const [kind, ...words] = line
      .replace(/(^|\s)#.*/, "")
      .split(/\s+/)
      .filter((word) => word !== "");
    if (kind === undefined) continue;
    if (!kinds.includes(kind) || words.length === 0) {
      const what = `${JSON.stringify(line)} is not one of ${kinds.join(", ")} followed by one or more values`;
      throw new WaltError(`device/${name}, line ${index + 1}: ${what}`);
    }
    lines.push({ kind, words });
  }
  return lines;
}

/** When a kernel module is loaded; device/modules.txt says what each word means. */
export const MODULE_KINDS = ["early", "boot", "network", "late"] as const;
export type ModuleKind = (typeof MODULE_KINDS)[number];

/** The recipe, as `device/README.md` describes it. */
export interface Recipe {
  /** `device/packages.txt`: which packages, and where in Debian's archive they are. */
  packages: {
    /** Suites of Debian's archive, such as `trixie`. */
    suites: readonly string[];
    /** Suites of Debian's security archive. */
    security: readonly string[];
    /** Components of both archives, such as `main`. */
    components: readonly string[];
    /** Packages that are downloaded with all packages that they depend on. */
    withDependencies: readonly string[];
    /** Packages that are downloaded without the packages that they depend on. */
    alone: readonly string[];
  };
  /** `device/root.txt`: absolute paths of files in the packages that the root gets. */
  root: readonly { kind: "program" | "library" | "file"; path: string }[];
  /** `device/modules.txt`: names of the kernel modules, by the time when they are loaded. */
  modules: Readonly<Record<ModuleKind, readonly string[]>>;
  /** `device/firmware.txt`: files of the boot partition that the board's firmware needs. */
  firmware: readonly { kind: "firmware" | "dtb"; name: string }[];
  /** `device/applets.txt`: commands of busybox, and the folder of each. */
  applets: readonly { kind: "bin" | "sbin"; name: string }[];
  /** Content of `device/config.txt`. */
  configTxt: string;
  /** Content of `device/cmdline.txt`. */
  cmdlineTxt: string;
  /** Files of `device/initramfs`; paths are relative to it. */
  initramfsFiles: readonly RecipeFile[];
  /** Files of `device/root`; paths are relative to it. */
  rootFiles: readonly RecipeFile[];
  /** SHA-256 over all of these files, in hex. */
  hash: string;
}

/** The recipe that this program contains. @throws WaltError when a file of it is missing or malformed. */
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
