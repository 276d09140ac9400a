/** The files of several unpacked packages, looked up as if the packages were installed in one file system. */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { WaltError } from "../../errors.ts";
import type { Architecture } from "./architecture.ts";
import { isElf, parseElf } from "./elf.ts";

/** A file of a package. */
export interface Found {
  /** Its absolute path in that file system, with links resolved. */
  path: string;
  /** Its path on this machine. */
  source: string;
  /** Name of the package that it is from. */
  owner: string;
}

/** Links that are followed one after the other before a path counts as one that does not exist. */
const MAX_LINKS = 32;

/**
 * A path with its first part below /usr: `/lib/x` becomes `/usr/lib/x`. In Debian 13, /bin, /sbin, /lib and
 * /lib64 are links into /usr, but some packages and programs still use the short names.
 */
export function merged(path: string): string {
  return normalize(path).replace(/^\/(bin|sbin|lib64|lib)(?=\/|$)/, "/usr/$1");
}

/**
 * Paths of everything below `folder` that is not a folder itself, relative to `folder`. Links are not
 * followed.
 * @param below where to begin, relative to `folder`.
 */
export function walk(folder: string, below = ""): string[] {
  return readdirSync(join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    return entry.isDirectory() ? walk(folder, path) : [path];
  });
}

/** Files and links of packages, by their absolute paths. */
export class Tree {
  readonly #entries = new Map<string, { source: string; owner: string; link: string | undefined }>();

  /** @param architecture of the packages. */
  constructor(readonly architecture: Architecture) {}

  /**
   * Add the files of a package; where two packages have the same path, the one that is added last is found.
   * @param owner name of the package.
   * @param folder where it is unpacked.
   */
  add(owner: string, folder: string): void {
    for (const name of walk(folder)) {
      const source = join(folder, name);
      const stat = lstatSync(source);
      const link = stat.isSymbolicLink() ? readlinkSync(source) : undefined;
      if (link === undefined && !stat.isFile()) continue;
      this.#entries.set(merged(`/${name}`), { source, owner, link });
    }
  }

  /** All absolute paths, of files and of links. */
  paths(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** The file at an absolute path, with links followed; undefined where there is none. */
  find(path: string): Found | undefined {
    let at = merged(path);
    for (let links = 0; links < MAX_LINKS; links++) {
      const entry = this.#entries.get(at);
      if (entry === undefined) return undefined;
      if (entry.link === undefined) return { path: at, source: entry.source, owner: entry.owner };
      at = merged(entry.link.startsWith("/") ? entry.link : join(dirname(at), entry.link));
    }
    return undefined;
  }

  /** The file at an absolute path, with links followed. @throws WaltError when no package has it. */
  get(path: string): Found {
    const found = this.find(path);
    if (found === undefined)
      throw new WaltError(`no package contains ${path}`, {
        hint: "Are root.txt and packages.txt of the recipe right?",
      });
    return found;
  }

  /**
   * A file and everything that it needs to run: the loader and the shared libraries, and what those need.
   * @param into where to add them, and what is returned: the path at which each is looked for → file.
   * @throws WaltError naming a library that no package has, or a file for another architecture.
   */
  closure(path: string, into = new Map<string, Found>()): Map<string, Found> {
    const at = merged(path);
    if (into.has(at)) return into;
    const found = this.get(path);
    into.set(at, found);
    const bytes = readFileSync(found.source);
    if (!isElf(bytes)) return into;
    const elf = parseElf(bytes, found.path);
    const { debian, libraries, machine } = this.architecture;
    if (elf.machine !== machine)
      throw new WaltError(`${found.path} of ${found.owner} is not an ${debian} program`);
    if (elf.interpreter !== undefined) this.closure(elf.interpreter, into);
    for (const name of elf.needed) {
      // Where ld.so(8) looks.
      const folders = [...elf.runpath.map((p) => expand(p, found.path)), `/usr/lib/${libraries}`, "/usr/lib"];
      const library = folders.map((folder) => join(folder, name)).find((p) => this.find(p) !== undefined);
      if (library === undefined)
        throw new WaltError(`${found.path} needs ${name}, which no package contains`);
      this.closure(library, into);
    }
    return into;
  }
}

/** A folder of DT_RUNPATH with `$ORIGIN` replaced: it stands for the folder of the file itself (ld.so(8)). */
function expand(path: string, file: string): string {
  return path.replace(/\$(ORIGIN|\{ORIGIN\})/, dirname(file));
}
