/** Kernel modules from the kernel's package, uncompressed, in the order in which to load them. */

import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { WaltError } from "../../errors.ts";
import { toolBytes } from "../process.ts";
import type { Tree } from "./tree.ts";

/** One kernel module. */
export interface Module {
  /** Its name as the kernel writes it: `_` in place of `-`. */
  name: string;
  /**
   * Its path in the root, without a suffix of compression: `/usr/lib/modules/6.12…/kernel/fs/ext4/ext4.ko`.
   */
  path: string;
  /** Its content, uncompressed. */
  data: Buffer;
}

/** A module's name as the kernel writes it. */
const normal = (name: string): string => name.replaceAll("-", "_");

/** The modules of one kernel. */
export class Modules {
  readonly #paths = new Map<string, string>();
  readonly #builtin = new Set<string>();
  readonly #read = new Map<string, Promise<{ module: Module; depends: string[] }>>();

  private constructor(
    readonly tree: Tree,
    /** Version of the kernel, such as `6.12.0-arm64`: the name of its folder in /usr/lib/modules. */
    readonly version: string,
  ) {
    const folder = `/usr/lib/modules/${version}/`;
    for (const path of tree.paths()) {
      const name = /^(.+)\.ko(\.xz|\.zst|\.gz)?$/.exec(basename(path))?.[1];
      if (path.startsWith(folder) && name !== undefined) this.#paths.set(normal(name), path);
    }
    const builtin = readFileSync(tree.get(`${folder}modules.builtin`).source, "utf8");
    for (const line of builtin.split("\n")) this.#builtin.add(normal(basename(line, ".ko")));
  }

  /**
   * The modules of the only kernel in the packages.
   * @throws WaltError when they have no kernel, or several.
   */
  static of(tree: Tree): Modules {
    const versions = [...tree.paths()].flatMap((path) => /^\/boot\/vmlinuz-(.+)$/.exec(path)?.[1] ?? []);
    const [version, ...others] = versions;
    if (version === undefined || others.length > 0)
      throw new WaltError(
        `the packages contain ${versions.length} kernels instead of one: ${versions.join(", ")}`,
      );
    return new Modules(tree, version);
  }

  /**
   * The named modules and the modules that they need, in the order in which to load them. Modules that are
   * built into the kernel are left out.
   * @throws WaltError naming a module that the kernel does not have.
   */
  async closure(names: readonly string[]): Promise<Module[]> {
    const found = new Map<string, Module>();
    const add = async (name: string): Promise<void> => {
      const wanted = normal(name);
      if (found.has(wanted) || this.#builtin.has(wanted)) return;
      const { module, depends } = await this.#load(wanted);
      for (const other of depends) await add(other);
      found.set(wanted, module);
    };
    for (const name of names) await add(name);
    return [...found.values()];
  }

  #load(name: string): Promise<{ module: Module; depends: string[] }> {
    const known = this.#read.get(name) ?? this.#decompress(name);
    this.#read.set(name, known);
    return known;
  }

  async #decompress(name: string): Promise<{ module: Module; depends: string[] }> {
    const path = this.#paths.get(name);
    if (path === undefined) {
      throw new WaltError(`the kernel ${this.version} has no module ${name}`, {
        hint: "Is modules.txt of the recipe right?",
      });
    }
    const { source } = this.tree.get(path);
    const program = { ".xz": "xz", ".zst": "zstd", ".gz": "gzip" }[/\.(xz|zst|gz)$/.exec(path)?.[0] ?? ""];
    const data = program === undefined ? readFileSync(source) : await toolBytes([program, "-dc", source]);
    // modinfo(8): the section .modinfo holds "depends=a,b" among its zero-terminated strings.
    const depends = /\0depends=([^\0]*)\0/.exec(data.toString("latin1"))?.[1] ?? "";
    const module = { name, path: path.replace(/\.(xz|zst|gz)$/, ""), data };
    return { module, depends: depends.split(",").filter((word) => word !== "") };
  }

  /** The lists of modules that depmod(8) reads: path in the root → path on this machine. */
  lists(): Map<string, string> {
    const names = ["modules.order", "modules.builtin", "modules.builtin.modinfo"];
    const paths = names.map((name) => `/usr/lib/modules/${this.version}/${name}`);
    return new Map(paths.map((path) => [path, this.tree.get(path).source]));
  }
}
