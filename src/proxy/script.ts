/** `proxy-setup.sh`, filled in: the one description of what is done to a proxy. */

import { formatHostPort, type HostPort } from "../address.ts";
import { authorizedKeys } from "../ssh/keys/authorized-keys.ts";
import { KEY_TYPE, type PublicKey } from "../ssh/keys/ed25519.ts";
import { safeText } from "../text.ts";
import template from "./proxy-setup.sh" with { type: "text" };

/** What the script is made from. */
export interface ProxyScriptOptions {
  /** Sign the certificates of the devices: one, and during its rotation two, the one in use first. */
  cas: readonly PublicKey[];
  /** What devices without certificate come with. */
  enrolments: readonly PublicKey[];
  /** Tells this server's lines from those of others, whatever keys it has: the fingerprint of its first CA. */
  mark: string;
  /**
   * The only address that devices may open from the proxy: the server's endpoint, or the next proxy's sshd.
   */
  next: HostPort;
  /**
   * Keys of revoked devices whose certificates the proxy would let in for a while; undefined when they are not known:
   * then those that the proxy has stay.
   */
  revoked: readonly PublicKey[] | undefined;
  /** Path of the CA's public key on the server's own machine, by which the script recognises that machine. */
  serverCaFile: string;
  /** Of walt, for the first lines. */
  version: string;
  /** When the script is written, by a clock that is not behind: an earlier clock of the proxy is wrong. */
  written: Date;
}

/**
 * The last word of this server's lines in a proxy's authorized_keys, where sshd wants a comment (sshd(8)): by it they are told
 * from the lines of others.
 */
function proxyMark(mark: string): string {
  return `walt-vpn=${mark}`;
}

/** The lines for authorized_keys, each with the server's mark and its line break. */
export function markedKeys(o: Pick<ProxyScriptOptions, "cas" | "enrolments" | "mark" | "next">): string {
  const marked = (key: PublicKey): PublicKey => ({
    blob: key.blob,
    // A comment that is too long would be cut, and the mark with it.
    comment: `${safeText(key.comment, 100)} ${proxyMark(o.mark)}`.trimStart(),
  });
  return authorizedKeys({ cas: o.cas.map(marked), enrolments: o.enrolments.map(marked), next: o.next });
}

/** The text of the script: POSIX sh. */
export function proxySetupScript(o: ProxyScriptOptions): string {
  const values: Record<string, string> = {
    VERSION: safeText(o.version, 40),
    NEXT: shellQuote(formatHostPort(o.next)),
    CAS: shellQuote(o.cas.map(keyText).join("\n")),
    SERVER_CA_FILE: shellQuote(o.serverCaFile),
    ENROLMENTS: shellQuote(o.enrolments.map(keyText).join("\n")),
    MARK: shellQuote(proxyMark(o.mark)),
    REVOKED: shellQuote(
      o.revoked?.map((key) => `${keyText(key)} ${proxyMark(o.mark)}`).join("\n") ?? "unknown",
    ),
    AUTHORIZED_KEYS: shellQuote(markedKeys(o).trimEnd()),
    WRITTEN_AT: shellQuote(o.written.toISOString()),
    WRITTEN_SECONDS: shellQuote(String(Math.floor(o.written.getTime() / 1000))),
  };
  // In the template a value is either a word in quotes of its own, which are replaced with it, or part of a
  // comment.
  return template.replace(/'@([A-Z_]+)@'|@VERSION@/g, (_, name: string | undefined) => {
    const value = values[name ?? "VERSION"];
    if (value === undefined) throw new Error(`proxy-setup.sh has a placeholder ${name} too many`);
    return value;
  });
}

/** A key without its comment. */
function keyText({ blob }: PublicKey): string {
  return `${KEY_TYPE} ${blob.toString("base64")}`;
}

/** Any text as one word of a POSIX shell. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
