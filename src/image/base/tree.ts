/** The unpacked packages, seen as the one file system that they would be if they were installed. */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { WaltError } from "../../errors.ts";
import { AARCH64, isElf, parseElf } from "./elf.ts";

/** A file of a package. */
export interface Found {
  /** Absolute, in the root that it is for, links resolved. */
  path: string;
  /** Where it is on this machine. */
  source: string;
  /** The package. */
  owner: string;
}

const LIBRARIES = ["/usr/lib/aarch64-linux-gnu", "/usr/lib"];
const MAX_LINKS = 32;

/** In Debian 13 these are links into /usr; some packages still say the short name. */
export function merged(path: string): string {
  return normalize(path).replace(/^\/(bin|sbin|lib)(?=\/|$)/, "/usr/$1");
}

/** Paths of everything below a folder that is no folder itself, relative to it; links are not followed. */
export function walk(folder: string, below = ""): string[] {
  return readdirSync(join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    return entry.isDirectory() ? walk(folder, path) : [path];
  });
}

export class Tree {
  readonly #entries = new Map<string, { source: string; owner: string; link: string | undefined }>();

  /** Add what a package has. @param folder where it is unpacked. */
  add(owner: string, folder: string): void {
    for (const name of walk(folder)) {
      const source = join(folder, name);
      const stat = lstatSync(source);
      const link = stat.isSymbolicLink() ? readlinkSync(source) : undefined;
      if (link === undefined && !stat.isFile()) continue;
      this.#entries.set(merged(`/${name}`), { source, owner, link });
    }
  }

  /** All paths. */
  paths(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** The file at an absolute path, through links; undefined where there is none. */
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

  /** Like `find`, for what must be there. */
  get(path: string): Found {
    const found = this.find(path);
    if (found === undefined)
      throw new WaltError(`no package has ${path}`, {
        hint: "Are device/root.txt and device/packages.txt right?",
      });
    return found;
  }

  /**
   * The file and everything it needs to run, each under the path at which it is looked for: path → file.
   * @throws WaltError naming a library that no package has.
   */
  closure(path: string, into = new Map<string, Found>()): Map<string, Found> {
    const at = merged(path);
    if (into.has(at)) return into;
    const found = this.get(path);
    into.set(at, found);
    const bytes = readFileSync(found.source);
    if (!isElf(bytes)) return into;
    const elf = parseElf(bytes, found.path);
    if (elf.machine !== AARCH64)
      throw new WaltError(`${found.path} of ${found.owner} is not an arm64 program`);
    if (elf.interpreter !== undefined) this.closure(elf.interpreter, into);
    for (const name of elf.needed) {
      const folders = [...elf.runpath.map((p) => expand(p, found.path)), ...LIBRARIES];
      const library = folders.map((folder) => join(folder, name)).find((p) => this.find(p) !== undefined);
      if (library === undefined) throw new WaltError(`${found.path} needs ${name}, which no package has`);
      this.closure(library, into);
    }
    return into;
  }
}

/** ld.so(8): `$ORIGIN` is the folder of the file itself. */
function expand(path: string, file: string): string {
  return path.replace(/\$(ORIGIN|\{ORIGIN\})/, dirname(file));
}
