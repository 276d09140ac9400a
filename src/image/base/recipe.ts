/** The recipes of operating systems: of the device in `device/`, of a node in `node/`, parsed. */

import { createHash } from "node:crypto";
import { WaltError } from "../../errors.ts";
import type { Architecture } from "./architecture.ts";
import { readRecipe } from "./recipe-macro.ts" with { type: "macro" };
import type { RecipeFile } from "./recipe-macro.ts";

export type { RecipeFile };

const DEVICE: readonly RecipeFile[] = readRecipe("device");
const NODE: readonly RecipeFile[] = readRecipe("node");

/** A line of one of the lists (`*.txt`): its first word, and the other words. */
export interface ListLine {
  kind: string;
  words: readonly string[];
}

/**
 * The lines of a list. `#` begins a comment; empty lines are left out.
 * @param path of the file, for messages.
 * @throws WaltError when a line does not begin with one of `kinds`, or has only one word.
 */
export function parseList(text: string, path: string, kinds: readonly string[]): ListLine[] {
  const lines: ListLine[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const [kind, ...words] = line
      .replace(/(^|\s)#.*/, "")
      .split(/\s+/)
      .filter((word) => word !== "");
    if (kind === undefined) continue;
    if (!kinds.includes(kind) || words.length === 0) {
      const what = `${JSON.stringify(line)} is not one of ${kinds.join(", ")} followed by one or more values`;
      throw new WaltError(`${path}, line ${index + 1}: ${what}`);
    }
    lines.push({ kind, words });
  }
  return lines;
}

/** When a kernel module is loaded; modules.txt says what each word means. */
export const MODULE_KINDS = ["early", "boot", "network", "late"] as const;
export type ModuleKind = (typeof MODULE_KINDS)[number];

/** What a system is made from, as `device/README.md` and `node/README.md` describe it. */
export interface Recipe {
  /** `packages.txt`: which packages, and where in Debian's archive they are. */
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
  /** `root.txt`: absolute paths of files and folders in the packages that the root gets. */
  root: readonly { kind: "program" | "library" | "file" | "all"; path: string }[];
  /** `root.txt`: absolute paths of folders that the root has even if nothing is in them. */
  folders: readonly string[];
  /** `root.txt`: symbolic links of the root. */
  links: readonly { path: string; target: string }[];
  /** `modules.txt`: names of the kernel modules, by the time when they are loaded. */
  modules: Readonly<Record<ModuleKind, readonly string[]>>;
  /** `applets.txt`: commands of busybox, and the folder of each. */
  applets: readonly { kind: "bin" | "sbin"; name: string }[];
  /** Content of `cmdline.txt`, the kernel's command line. */
  cmdlineTxt: string;
  /** Files of `initramfs/`; paths are relative to it. */
  initramfsFiles: readonly RecipeFile[];
  /** Files of `root/`; paths are relative to it. */
  rootFiles: readonly RecipeFile[];
  /** SHA-256 over all files of the recipe, in hex. */
  hash: string;
}

/** The recipe of the device's system. */
export interface DeviceRecipe extends Recipe {
  /** `device/firmware.txt`: files of the boot partition that the board's firmware needs. */
  firmware: readonly { kind: "firmware" | "dtb"; name: string }[];
  /** Content of `device/config.txt`. */
  configTxt: string;
}

/**
 * The recipe of the device's system that this program contains.
 * @throws WaltError when a file of it is missing or malformed.
 */
export function loadRecipe(files: readonly RecipeFile[] = DEVICE): DeviceRecipe {
  const parts = new Parts("device", files);
  const firmwareKinds = ["firmware", "dtb"] as const;
  const firmware = parts.list("firmware.txt", firmwareKinds);
  return {
    ...parts.common(),
    firmware: firmwareKinds.flatMap((kind) => firmware(kind).map((name) => ({ kind, name }))),
    configTxt: parts.text("config.txt"),
  };
}

/**
 * The recipe of a node's system that this program contains, for one architecture. In its lists, a line that
 * begins with `amd64:` or `arm64:` is for that architecture only, and `{arch}`, `{libraries}` and `{console}`
 * stand for what the fields of `Architecture` say.
 * @throws WaltError when a file of it is missing or malformed.
 */
export function loadNodeRecipe(arch: Architecture, files: readonly RecipeFile[] = NODE): Recipe {
  const filled = files.map((file) => ({
    ...file,
    text: file.text
      .replaceAll(/^(amd64|arm64): (.*)$/gm, (_, only, line) => (only === arch.debian ? line : ""))
      .replaceAll("{arch}", arch.debian)
      .replaceAll("{libraries}", arch.libraries)
      .replaceAll("{console}", arch.console),
  }));
  return new Parts("node", filled).common();
}

/** The files of a recipe. */
class Parts {
  constructor(
    /** Its folder in the repository. */
    readonly folder: string,
    readonly files: readonly RecipeFile[],
  ) {}

  /** The content of a file. @throws WaltError when it is missing. */
  text(path: string): string {
    const found = this.files.find((file) => file.path === path);
    if (found === undefined) throw new WaltError(`${this.folder}/${path} is missing`);
    return found.text;
  }

  /** The words of a list, by their kind. @throws WaltError when the list is missing or malformed. */
  list<K extends string>(name: string, kinds: readonly K[]): (kind: K) => string[] {
    const lines = parseList(this.text(name), `${this.folder}/${name}`, kinds);
    return (kind) => lines.filter((line) => line.kind === kind).flatMap((line) => line.words);
  }

  /** The files in a folder. */
  within(folder: string): RecipeFile[] {
    return this.files
      .filter((file) => file.path.startsWith(`${folder}/`))
      .map((file) => ({ ...file, path: file.path.slice(folder.length + 1) }));
  }

  /** What every recipe has. */
  common(): Recipe {
    const packages = this.list("packages.txt", [
      ...["suite", "security", "components", "with-dependencies", "alone"],
    ]);
    const pathKinds = ["program", "library", "file", "all"] as const;
    const root = this.list("root.txt", [...pathKinds, "folder", "link"]);
    const modules = this.list("modules.txt", MODULE_KINDS);
    const appletKinds = ["bin", "sbin"] as const;
    const applets = this.list("applets.txt", appletKinds);
    return {
      packages: {
        suites: packages("suite"),
        security: packages("security"),
        components: packages("components"),
        withDependencies: packages("with-dependencies"),
        alone: packages("alone"),
      },
      root: pathKinds.flatMap((kind) => root(kind).map((path) => ({ kind, path }))),
      folders: root("folder"),
      links: this.#links(root("link")),
      modules: {
        early: modules("early"),
        boot: modules("boot"),
        network: modules("network"),
        late: modules("late"),
      },
      applets: appletKinds.flatMap((kind) => applets(kind).map((name) => ({ kind, name }))),
      cmdlineTxt: this.text("cmdline.txt"),
      initramfsFiles: this.within("initramfs"),
      rootFiles: this.within("root"),
      hash: hashOf(this.files),
    };
  }

  /** @param words a path and its target in turn. @throws WaltError when a target is missing. */
  #links(words: readonly string[]): { path: string; target: string }[] {
    if (words.length % 2 === 1)
      throw new WaltError(`${this.folder}/root.txt: a link has a path and a target`);
    return words.flatMap((path, i) => (i % 2 === 1 ? [] : [{ path, target: words[i + 1] ?? "" }]));
  }
}

function hashOf(files: readonly RecipeFile[]): string {
  const hash = createHash("sha256");
  for (const { path, executable, text } of files) hash.update(`${path}\0${executable}\0${text}\0`);
  return hash.digest("hex");
}
