/**
 * Which mirrors of Debian this machine's apt uses. They are the default because the program itself names no
 * mirror.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";
import { MIRROR } from "../../config/keys.ts";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { proxyEnvironment, tool, toolAny } from "../process.ts";
import { WorkFolder } from "../work-folder.ts";

/** Addresses that packages are downloaded from. */
export interface Mirrors {
  /** Address of a mirror of Debian's archive. */
  debian: string;
  /** Address of a mirror of the security archive; undefined when this machine's apt has none. */
  security: string | undefined;
}

/** What an archive says of itself in its file Release, such as `Origin: Debian`, `Label: Debian-Security`. */
interface Archive {
  /** Its address, without a slash at the end. */
  uri: string;
  origin: string;
  label: string;
}

/**
 * Names of Debian's releases, and the names that move from release to release. Archives of others use them as
 * well; Ubuntu has none of these.
 */
const NAMES = "buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable";
const RELEASES = new RegExp(`^(${NAMES})(?=$|[-/])`);

const HELPER = "/usr/lib/apt/apt-helper";
/** ms for the small file in which an archive says what it is. */
const ASK_TIMEOUT = 60_000;

/**
 * The mirror that the user chose, otherwise those that this machine's apt uses.
 * @param given the address that the user chose.
 * @param options of apt-get; tests give others.
 * @throws WaltError (usage) when `given` is not an address, or WaltError when this machine's apt has no
 *   mirror of Debian.
 */
export async function findMirrors(
  given: string | undefined,
  options: readonly string[] = [],
): Promise<Mirrors> {
  if (given !== undefined) {
    if (!MIRROR.test(given))
      throw usageError(`--mirror ${JSON.stringify(given)} is not the address of a Debian mirror`);
    return { debian: given, security: undefined };
  }
  const { ofDebian, others } = await archives(options);
  const debian = ofDebian.find(({ label }) => label !== "Debian-Security");
  if (debian === undefined) {
    const seen = others.length === 0 ? "" : `; it uses ${others.join(", ")}`;
    throw new WaltError(
      `the image needs packages of Debian, but this machine's apt uses no Debian mirror${seen}`,
      {
        hint:
          "Name a mirror near you with --mirror, or as image.mirror in vpn.toml. " +
          "The address of a mirror ends in /debian.",
      },
    );
  }
  const security = ofDebian.find(({ label }) => label === "Debian-Security");
  return { debian: debian.uri, security: security?.uri };
}

/**
 * The archives of this machine's apt that are Debian's, in their order, and the addresses of the others with
 * suites that are called as Debian's. An archive is what it says of itself: many have a suite `bookworm` or an
 * address that ends in `/debian`. (Whether it says the truth is a matter of its signature.)
 */
async function archives(options: readonly string[]): Promise<{ ofDebian: Archive[]; others: string[] }> {
  const known = new Map(
    (await targets(options, "$(BASE_URI)", "$(ORIGIN)", "$(LABEL)")).map(
      ([base = "", origin = "", label = ""]) => [base, { origin, label }],
    ),
  );
  const ofDebian: Archive[] = [];
  const others = new Set<string>();
  const all = [...options, "--no-release-info"]; // also those that this machine has no list of
  for (const [address = "", release = "", base = ""] of await targets(
    all,
    "$(REPO_URI)",
    "$(RELEASE)",
    "$(BASE_URI)",
  )) {
    const uri = address.replace(/\/+$/, "");
    if (!RELEASES.test(release) || uri.startsWith("cdrom:") || /["\s\\]/.test(uri)) continue;
    const said = known.get(base);
    const archive = said === undefined ? await asked(options, uri, base) : { uri, ...said };
    if (archive.origin === "Debian") ofDebian.push(archive);
    else others.add(archive.origin === "" ? uri : `${uri} (of ${archive.origin})`);
  }
  return { ofDebian, others: [...others] };
}

/** These fields of each index of packages in this machine's sources, in their order, each combination once. */
async function targets(options: readonly string[], ...fields: string[]): Promise<string[][]> {
  const command = [
    "apt-get",
    ...options,
    "indextargets",
    "--format",
    fields.join("\t"),
    "Created-By: Packages",
  ];
  const lines = (await tool(command, { more: proxyEnvironment() })).split("\n");
  return [...new Set(lines)].filter((line) => line !== "").map((line) => line.split("\t"));
}

/**
 * What an archive says of itself when it is asked: this machine's apt has no list of it, as in a container
 * whose lists were removed. Without an answer its origin is "".
 */
async function asked(options: readonly string[], uri: string, base: string): Promise<Archive> {
  using work = new WorkFolder(join(tmpdir(), "walt-release-"));
  const file = join(work.path, "Release");
  for (const name of ["InRelease", "Release"]) {
    const command = [HELPER, ...options, "download-file", `${base}${name}`, file];
    const answer = await toolAny(command, { more: proxyEnvironment(), timeout: ASK_TIMEOUT }).catch(
      messageOf,
    );
    if (typeof answer === "string" || answer.status !== 0) continue;
    const text = readTextIfAny(file) ?? "";
    const field = (name: string): string => new RegExp(`^${name}: *(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
    return { uri, origin: field("Origin"), label: field("Label") };
  }
  return { uri, origin: "", label: "" };
}
