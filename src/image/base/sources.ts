/**
 * Which mirrors of Debian this machine's apt uses: sources.list(5), in both of its formats.
 * They are the default because the program itself names no mirror.
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { MIRROR } from "../../config/keys.ts";
import { usageError, WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";

/** One suite of one archive. */
export interface Source {
  /** Address of the archive, such as one that ends in `/debian`. */
  uri: string;
  /** A suite of it, such as `trixie-updates`. */
  suite: string;
}

/** Names of Debian's releases, and the names that move from release to release. Ubuntu has none of these. */
const NAMES = "buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable";
const RELEASES = new RegExp(`^(${NAMES})(?=$|[-/])`);

/** The sources of one `.list` file: `deb [options] uri suite component…`. */
export function parseList(text: string): Source[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line.replace(/#.*/, ""));
    return match?.[1] === undefined || match[2] === undefined ? [] : [{ uri: match[1], suite: match[2] }];
  });
}

/**
 * The sources of one `.sources` file: stanzas with the fields `Types:`, `URIs:`, `Suites:` and others
 * (deb822(5)). Stanzas that are disabled are left out.
 */
export function parseStanzas(text: string): Source[] {
  const lines = text.split("\n").filter((line) => !line.startsWith("#"));
  return lines
    .join("\n")
    .split(/\n\s*\n/)
    .flatMap((stanza) => {
      const words = (name: string): string[] => {
        const found = new RegExp(`^${name}:((?:.*)(?:\\n[ \\t].*)*)`, "im").exec(stanza)?.[1] ?? "";
        return found.split(/\s+/).filter((word) => word !== "");
      };
      if (!words("Types").includes("deb")) return [];
      if (["no", "false", "without", "off", "disable"].includes(words("Enabled")[0]?.toLowerCase() ?? ""))
        return [];
      return words("URIs").flatMap((uri) => words("Suites").map((suite) => ({ uri, suite })));
    });
}

/** All sources of this machine. @param etc apt's folder of configuration. */
export function machineSources(etc = "/etc/apt"): Source[] {
  const sources = parseList(readTextIfAny(join(etc, "sources.list")) ?? "");
  let names: string[] = [];
  try {
    names = readdirSync(join(etc, "sources.list.d")).sort();
  } catch {
    // The folder does not exist.
  }
  for (const name of names) {
    const text = (): string => readTextIfAny(join(etc, "sources.list.d", name)) ?? "";
    if (name.endsWith(".list")) sources.push(...parseList(text()));
    else if (name.endsWith(".sources")) sources.push(...parseStanzas(text()));
  }
  return sources;
}

/** Addresses that packages are downloaded from. */
export interface Mirrors {
  /** Address of a mirror of Debian's archive. */
  debian: string;
  /** Address of a mirror of the security archive; undefined when this machine's apt has none. */
  security: string | undefined;
}

/**
 * The mirror that the user chose, otherwise those that this machine's apt uses.
 * @param given the address that the user chose.
 * @throws WaltError (usage) when `given` is not an address, or WaltError when this machine's apt has no
 *   mirror of Debian.
 */
export function findMirrors(given: string | undefined, sources: readonly Source[]): Mirrors {
  if (given !== undefined) {
    if (!MIRROR.test(given))
      throw usageError(`--mirror ${JSON.stringify(given)} is not the address of a Debian mirror`);
    return { debian: given, security: undefined };
  }
  const ours = sources.filter(({ suite, uri }) => RELEASES.test(suite) && !/["\s\\]/.test(uri));
  const isSecurity = ({ suite }: Source): boolean => /[-/](security|updates\/)|\/updates$/.test(suite);
  const debian = ours.find((source) => !isSecurity(source));
  if (debian === undefined) {
    throw new WaltError("the image needs packages of Debian, but this machine's apt uses no Debian mirror", {
      hint:
        "Name a mirror near you with --mirror, or as image.mirror in vpn.toml. " +
        "The address of a mirror ends in /debian.",
    });
  }
  return { debian: debian.uri, security: ours.find(isSecurity)?.uri };
}
