/**
 * Downloads Debian packages of another release and architecture with this machine's apt, in separate folders.
 *
 * apt checks signatures and hashes as it does for an installation, and the configuration and state of this
 * machine's apt are not changed.
 */

import { createHash } from "node:crypto";
import { createReadStream, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../../errors.ts";
import { proxyEnvironment, tool } from "../process.ts";
import type { Architecture } from "./architecture.ts";
import type { Recipe } from "./recipe.ts";
import type { Mirrors } from "./sources.ts";

/** A package, as the signed index of its suite describes it. */
export interface Package {
  name: string;
  version: string;
  /** `arm64`, `amd64` or `all`. */
  architecture: string;
  /** Size of the .deb, in bytes. */
  size: number;
  /** SHA-256 of the .deb, in hex. */
  sha256: string;
  /** Path of the .deb, which may not be downloaded yet. */
  file: string;
}

/**
 * Settings that are taken over from this machine's apt: how it reaches the network (HTTP proxies, retries),
 * and whether it checks dates, which matters when the clock is wrong. None of them weakens the check of
 * signatures.
 */
const INHERITED = /^Acquire::(https?::|Retries |ForceIPv|Check-Valid-Until |Check-Date |Queue-Mode )/;

/** Where and what to download. */
export interface AptOptions {
  /** Path of a folder that nothing else uses; it is kept between runs. */
  folder: string;
  mirrors: Mirrors;
  /** Path of the keyring with the keys that sign Debian's archive. */
  keyring: string;
  /** Of the packages. */
  architecture: Architecture;
  /** The recipe's packages, suites and components. */
  packages: Recipe["packages"];
}

/** apt with its own configuration, state and downloads in one folder. */
export class Apt {
  readonly #archives: string;

  private constructor(readonly options: AptOptions) {
    this.#archives = join(options.folder, "archives");
  }

  /**
   * Make the folders and the configuration.
   * @throws WaltError when the path of the folder has a character that apt.conf(5) cannot hold.
   */
  static async create(o: AptOptions): Promise<Apt> {
    if (/["\\\n]/.test(o.folder)) {
      const folder = JSON.stringify(o.folder);
      throw new WaltError(`apt cannot use ${folder}: the path has a quote, a backslash or a newline`, {
        hint: "Choose another folder with --cache.",
      });
    }
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

  get #environment(): Record<string, string> {
    return { ...proxyEnvironment(), APT_CONFIG: this.#configuration };
  }

  get #configuration(): string {
    return join(this.options.folder, "apt.conf");
  }

  /**
   * Lines of apt.conf(5). Relative paths are below `Dir`, so that this machine's own configuration is not
   * read.
   */
  #settings(): string[] {
    const { folder, architecture } = this.options;
    return [
      `Dir "${folder}/";`,
      'Dir::Etc "etc/";',
      'Dir::Etc::sourcelist "/dev/null";',
      // A mirror may require a password.
      'Dir::Etc::netrc "/etc/apt/auth.conf";',
      'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";',
      'Dir::State "state/";',
      `Dir::State::status "${folder}/status";`, // nothing is installed
      'Dir::Cache "cache/";',
      `Dir::Cache::archives "${this.#archives}/";`,
      `APT::Architecture "${architecture.debian}";`,
      `APT::Architectures { "${architecture.debian}"; };`,
      'APT::Install-Recommends "0";',
      'Acquire::Languages "none";',
    ];
  }

  /** The content of a `.sources` file: sources.list(5), in its deb822 format. */
  #sources(): string {
    const { mirrors, packages, keyring, architecture } = this.options;
    const stanza = (uri: string, suites: readonly string[]): string =>
      [
        "Types: deb",
        `URIs: ${uri}`,
        `Suites: ${suites.join(" ")}`,
        `Components: ${packages.components.join(" ")}`,
        `Architectures: ${architecture.debian}`,
        `Signed-By: ${keyring}`,
        "",
      ].join("\n");
    const stanzas = [stanza(mirrors.debian, packages.suites)];
    if (mirrors.security !== undefined) stanzas.push(stanza(mirrors.security, packages.security));
    return stanzas.join("\n");
  }

  async #run(program: string, ...args: string[]): Promise<string> {
    return await tool([program, ...args], { more: this.#environment });
  }

  /** Download the indices of all suites. @throws WaltError with apt's own message. */
  async update(): Promise<void> {
    try {
      await this.#run("apt-get", "update", "--quiet", "--error-on=any");
    } catch (error) {
      throw new WaltError(`cannot download the list of Debian's packages: ${aptReason(error)}`, {
        hint:
          `Is the mirror reachable from here, and does it have the suites ${this.options.packages.suites.join(", ")}? ` +
          "Choose another one with --mirror. For a mirror that signs with a key of its own, name that with --keyring.",
        cause: error,
      });
    }
  }

  /**
   * The packages of the recipe and those that they depend on, in the versions of the indices. Nothing is
   * downloaded.
   * @throws WaltError when a package does not exist, or when what it depends on does not.
   */
  async resolve(): Promise<Package[]> {
    const { withDependencies, alone } = this.options.packages;
    // apt leaves packages that are downloaded already out of the list, so it is shown an empty folder of
    // downloads.
    const noArchives = ["-o", `Dir::Cache::archives=${this.options.folder}/none/`];
    let uris: string;
    try {
      const kernels = await Promise.all(alone.map((name) => this.#realName(name)));
      uris = await this.#run(
        "apt-get",
        ...["install", "--print-uris", "-qq", "-y", "--no-install-recommends"],
        ...noArchives,
        ...withDependencies,
      );
      uris += await this.#run("apt-get", "download", "--print-uris", "-qq", ...noArchives, ...kernels);
    } catch (error) {
      const reason = aptReason(error);
      throw new WaltError(`Debian does not have the packages of the recipe: ${reason}`, {
        cause: error,
      });
    }
    const found = new Map<string, { name: string; version: string }>();
    for (const line of uris.split("\n")) {
      // A line is: 'uri' name_version_architecture.deb size hash
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
        throw new WaltError(`Debian's index has no SHA-256 of the package ${name} ${version}`);
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

  /**
   * The package that a name stands for. `linux-image-arm64` is empty and depends on the newest kernel's
   * package, so that it stands for that; other names stand for themselves.
   */
  async #realName(name: string): Promise<string> {
    const record = await this.#run("apt-cache", "show", "--no-all-versions", name);
    const real = /^Depends: (linux-image-\S+)/m.exec(record)?.[1];
    return name.startsWith("linux-image-") && real !== undefined ? real : name;
  }

  /**
   * Download the packages that are not here yet or are damaged, and check size and SHA-256 of each.
   * @throws WaltError when a package cannot be downloaded, or when its file is not what the signed index
   *   says.
   */
  async download(packages: readonly Package[]): Promise<void> {
    const missing: Package[] = [];
    for (const one of packages) if (!(await isWhole(one))) missing.push(one);
    if (missing.length === 0) return;
    for (const { file } of missing) rmSync(file, { force: true });
    const wanted = missing.map(({ name, version }) => `${name}=${version}`);
    try {
      // `apt-get download` puts the files into its working directory.
      await tool(["sh", "-c", 'cd "$0" && exec apt-get download -qq "$@"', this.#archives, ...wanted], {
        more: this.#environment,
      });
    } catch (error) {
      throw new WaltError(`cannot download Debian's packages: ${aptReason(error)}`, { cause: error });
    }
    for (const one of missing) {
      if (!(await isWhole(one)))
        throw new WaltError(`${one.file} does not have the size and SHA-256 of Debian's signed index`);
    }
  }
}

/**
 * The values of some fields of a record, with a space between them; the value of a missing field is empty.
 */
function key(record: string, ...names: string[]): string {
  return names.map((name) => new RegExp(`^${name}: (.*)$`, "m").exec(record)?.[1] ?? "").join(" ");
}

/**
 * At most three of apt's lines that report errors, without its warnings; all its words when there is none.
 */
function aptReason(error: unknown): string {
  const lines = messageOf(error).split("\n");
  const errors = lines.filter((line) => line.startsWith("E: ")).map((line) => line.slice(3));
  return errors.length === 0 ? messageOf(error) : errors.slice(0, 3).join("; ");
}

/** Whether a package's file is there, complete and undamaged. */
async function isWhole({ file, size, sha256 }: Package): Promise<boolean> {
  if (statSync(file, { throwIfNoEntry: false })?.size !== size) return false;
  return (await sha256File(file)) === sha256;
}

/** SHA-256 of a file, in hex. @throws the system's error when it cannot be read. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
