/**
 * Debian packages of another release and architecture, by apt itself in folders of its own: its signatures and hashes hold
 * as in an installation, and this machine's apt sees nothing of it.
 */

import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { tool } from "../process.ts";
import type { Recipe } from "./recipe.ts";
import type { Mirrors } from "./sources.ts";

export const ARCHITECTURE = "arm64";

/** A package as a file. */
export interface Package {
  name: string;
  version: string;
  architecture: string;
  /** Bytes. */
  size: number;
  /** Hex; what the signed index says, and what the file has. */
  sha256: string;
  /** Path of the .deb. */
  file: string;
}

/** How this machine's apt gets to the network: proxies, its opinion about clocks. Nothing that weakens signatures. */
const INHERITED = /^Acquire::(https?::|Retries |ForceIPv|Check-Valid-Until |Check-Date |Queue-Mode )/;

export interface AptOptions {
  /** Folder of its own, kept between runs. */
  folder: string;
  mirrors: Mirrors;
  keyring: string;
  packages: Recipe["packages"];
}

export class Apt {
  readonly #archives: string;

  private constructor(readonly options: AptOptions) {
    this.#archives = join(options.folder, "archives");
  }

  /** Make the folders and the configuration. */
  static async create(o: AptOptions): Promise<Apt> {
    if (/["\\\n]/.test(o.folder)) throw new WaltError(`${JSON.stringify(o.folder)} is no folder for apt`);
    for (const name of ["etc/sources.list.d", "etc/apt.conf.d", "etc/preferences.d", "etc/trusted.gpg.d"])
      mkdirSync(join(o.folder, name), { recursive: true });
    for (const name of ["state/lists/partial", "archives/partial", "none/partial"])
      mkdirSync(join(o.folder, name), { recursive: true });
    writeFileSync(join(o.folder, "status"), "");
    const apt = new Apt(o);
    const inherited = (await tool(["apt-config", "dump", "Acquire"]))
      .split("\n")
      .filter((line) => INHERITED.test(line));
    writeFileSync(apt.#configuration, [...apt.#settings(), ...inherited, ""].join("\n"));
    writeFileSync(join(o.folder, "etc/sources.list.d/walt.sources"), apt.#sources());
    return apt;
  }

  get #configuration(): string {
    return join(this.options.folder, "apt.conf");
  }

  /** apt.conf(5). Relative folders are below `Dir`; parts of this machine's configuration are not read. */
  #settings(): string[] {
    const { folder } = this.options;
    return [
      `Dir "${folder}/";`,
      'Dir::Etc "etc/";',
      'Dir::Etc::sourcelist "/dev/null";',
      'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";', // a mirror may want a password
      'Dir::State "state/";',
      `Dir::State::status "${folder}/status";`, // nothing is installed
      'Dir::Cache "cache/";',
      `Dir::Cache::archives "${this.#archives}/";`,
      `APT::Architecture "${ARCHITECTURE}";`,
      `APT::Architectures { "${ARCHITECTURE}"; };`,
      'APT::Install-Recommends "0";',
      'Acquire::Languages "none";',
    ];
  }

  /** sources.list(5), deb822. */
  #sources(): string {
    const { mirrors, packages, keyring } = this.options;
    const stanza = (uri: string, suites: readonly string[]): string =>
      [
        "Types: deb",
        `URIs: ${uri}`,
        `Suites: ${suites.join(" ")}`,
        `Components: ${packages.components.join(" ")}`,
        `Architectures: ${ARCHITECTURE}`,
        `Signed-By: ${keyring}`,
        "",
      ].join("\n");
    const stanzas = [stanza(mirrors.debian, packages.suites)];
    if (mirrors.security !== undefined) stanzas.push(stanza(mirrors.security, packages.security));
    return stanzas.join("\n");
  }

  async #run(program: string, ...args: string[]): Promise<string> {
    return await tool([program, ...args], { more: { APT_CONFIG: this.#configuration } });
  }

  /** Fetch the indices. @throws WaltError with apt's words. */
  async update(): Promise<void> {
    try {
      await this.#run("apt-get", "update", "--quiet", "--error-on=any");
    } catch (error) {
      throw new WaltError(`cannot get the list of Debian's packages: ${aptReason(error)}`, {
        hint: "Is the mirror reachable from here, and does it have the suites of device/packages.txt? Another one: --mirror.",
        cause: error,
      });
    }
  }

  /**
   * Which packages the recipe comes to, by what the indices say today; nothing is downloaded.
   * @throws WaltError when one does not exist or cannot be satisfied.
   */
  async resolve(): Promise<Package[]> {
    const { withDependencies, alone } = this.options.packages;
    // Packages that are here already would be left out of the list.
    const elsewhere = ["-o", `Dir::Cache::archives=${this.options.folder}/none/`];
    let uris: string;
    try {
      const kernels = await Promise.all(alone.map((name) => this.#realName(name)));
      uris = await this.#run(
        "apt-get",
        ...["install", "--print-uris", "-qq", "-y", "--no-install-recommends"],
        ...elsewhere,
        ...withDependencies,
      );
      uris += await this.#run("apt-get", "download", "--print-uris", "-qq", ...elsewhere, ...kernels);
    } catch (error) {
      throw new WaltError(`Debian has not what device/packages.txt asks for: ${aptReason(error)}`, {
        cause: error,
      });
    }
    const found = new Map<string, { name: string; version: string }>();
    for (const line of uris.split("\n")) {
      // 'uri' name_version_architecture.deb size hash
      const file = /^'[^']*' (\S+\.deb) \d+/.exec(line)?.[1];
      const [name, version] = decodeURIComponent(file ?? "").split("_");
      if (file !== undefined && name !== undefined && version !== undefined)
        found.set(file, { name, version });
    }
    const wanted = [...found.values()].map(({ name, version }) => `${name}=${version}`);
    const shown = await this.#run("apt-cache", "show", ...wanted);
    const records = new Map(shown.split(/\n\n+/).map((text) => [key(text, "Package", "Version"), text]));
    return [...found].map(([file, { name, version }]): Package => {
      const record = records.get(`${name} ${version}`) ?? "";
      const sha256 = key(record, "SHA256");
      if (!/^[0-9a-f]{64}$/.test(sha256))
        throw new WaltError(`the index has no SHA-256 of ${name} ${version}`);
      const size = Number(key(record, "Size"));
      return {
        name,
        version,
        architecture: key(record, "Architecture"),
        size,
        sha256,
        file: join(this.#archives, file),
      };
    });
  }

  /** A package that only depends on the newest of its kind (`linux-image-arm64`) stands for that. */
  async #realName(name: string): Promise<string> {
    const record = await this.#run("apt-cache", "show", "--no-all-versions", name);
    const real = /^Depends: (linux-image-\S+)/m.exec(record)?.[1];
    return name.startsWith("linux-image-") && real !== undefined ? real : name;
  }

  /** Download those that are not here yet, and check all. @throws WaltError when one cannot be had, or is damaged. */
  async download(packages: readonly Package[]): Promise<void> {
    const missing: Package[] = [];
    for (const one of packages) if (!(await isWhole(one))) missing.push(one);
    if (missing.length === 0) return;
    for (const { file } of missing) rmSync(file, { force: true });
    const wanted = missing.map(({ name, version }) => `${name}=${version}`);
    try {
      // It downloads into the folder that it runs in.
      await tool(["sh", "-c", 'cd "$0" && exec apt-get download -qq "$@"', this.#archives, ...wanted], {
        more: { APT_CONFIG: this.#configuration },
      });
    } catch (error) {
      throw new WaltError(`cannot download Debian's packages: ${aptReason(error)}`, { cause: error });
    }
    for (const one of missing) {
      if (!(await isWhole(one))) throw new WaltError(`${one.file} is not what the signed index says`);
    }
  }
}

/** Fields of a record, with a blank between them. */
function key(record: string, ...names: string[]): string {
  return names.map((name) => new RegExp(`^${name}: (.*)$`, "m").exec(record)?.[1] ?? "").join(" ");
}

/** apt's own error lines, without its warnings. */
function aptReason(error: unknown): string {
  const lines = messageOf(error).split("\n");
  const errors = lines.filter((line) => line.startsWith("E: ")).map((line) => line.slice(3));
  return errors.length === 0 ? messageOf(error) : errors.slice(0, 3).join("; ");
}

async function isWhole({ file, size, sha256 }: Package): Promise<boolean> {
  if (statSync(file, { throwIfNoEntry: false })?.size !== size) return false;
  return (await sha256File(file)) === sha256;
}

/** SHA-256 of a file, hex. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
