/** Where this machine's apt gets Debian from: sources.list(5) in both its formats. The program itself knows no host. */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { MIRROR } from "../../config/keys.ts";
import { usageError, WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";

export interface Source {
  uri: string;
  suite: string;
}

/** Names of Debian's releases and of what moves along them; Ubuntu's are others. */
const RELEASES =
  /^(buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(?=$|[-/])/;

/** The sources of one `.list` file: `deb [options] uri suite component…`. */
export function parseList(text: string): Source[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)/.exec(line.replace(/#.*/, ""));
    return match?.[1] === undefined || match[2] === undefined ? [] : [{ uri: match[1], suite: match[2] }];
  });
}

/** The sources of one `.sources` file: stanzas of `Types:`, `URIs:`, `Suites:`, … (deb822). */
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

/** All sources of this machine. @param etc apt's folder. */
export function machineSources(etc = "/etc/apt"): Source[] {
  const sources = parseList(readTextIfAny(join(etc, "sources.list")) ?? "");
  let names: string[] = [];
  try {
    names = readdirSync(join(etc, "sources.list.d")).sort();
  } catch {
    // there is none
  }
  for (const name of names) {
    const text = (): string => readTextIfAny(join(etc, "sources.list.d", name)) ?? "";
    if (name.endsWith(".list")) sources.push(...parseList(text()));
    else if (name.endsWith(".sources")) sources.push(...parseStanzas(text()));
  }
  return sources;
}

export interface Mirrors {
  debian: string;
  /** Of the security archive, when this machine has one. */
  security: string | undefined;
}

/**
 * The mirror that is told, else the one of this machine.
 * @throws WaltError on a machine without Debian's.
 */
export function findMirrors(told: string | undefined, sources: readonly Source[]): Mirrors {
  if (told !== undefined) {
    if (!MIRROR.test(told))
      throw usageError(`--mirror ${JSON.stringify(told)} is not the address of a Debian mirror`);
    return { debian: told, security: undefined };
  }
  const ours = sources.filter(({ suite, uri }) => RELEASES.test(suite) && !/["\s\\]/.test(uri));
  const isSecurity = ({ suite }: Source): boolean => /[-/](security|updates\/)|\/updates$/.test(suite);
  const debian = ours.find((source) => !isSecurity(source));
  if (debian === undefined) {
    throw new WaltError("this machine's apt has no Debian mirror, from which the image's packages come", {
      hint: "Name one with --mirror, or image.mirror in vpn.toml: the address that ends in /debian of a mirror near you.",
    });
  }
  return { debian: debian.uri, security: ours.find(isSecurity)?.uri };
}
