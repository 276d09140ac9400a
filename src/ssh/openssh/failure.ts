/** What OpenSSH's client prints when it fails (versions 9 and 10, seen), in words for a person. */

import type { End, EndKind } from "../../end.ts";
import { safeText } from "../../text.ts";

/** Characters of ssh's output that are looked at: its last words. */
const LOOKED_AT = 8192;

export const KEY_REFUSED =
  "it does not accept our key: not set up for this WalT server, or the certificate is expired or revoked";

/** @param type of the key that it shows, and its fingerprint, where they are known. */
export function wrongHostKey(type?: string, fingerprint?: string): string {
  if (type === undefined) return "its host key is not the pinned one: another machine may answer there";
  return (
    `its host key is not the pinned one: it shows ${type} ${fingerprint}. Either another machine answers there, or it was ` +
    "installed anew; in that case the pinned key has to be replaced"
  );
}

/** In this order: the first that is found in the output counts, so that a cause stands before its consequences. */
const CAUSES: readonly (readonly [RegExp, EndKind, (match: RegExpExecArray) => string])[] = [
  [
    /REMOTE HOST IDENTIFICATION HAS CHANGED[\s\S]*?fingerprint for the (\S+) key sent by the remote host is\s+(SHA256:\S+?)\.?\s/,
    "wrong-host-key",
    (m) => wrongHostKey(m[1], m[2]),
  ],
  [/REMOTE HOST IDENTIFICATION HAS CHANGED/, "wrong-host-key", () => wrongHostKey()],
  [
    /No (\S+) host key is known for/,
    "wrong-host-key",
    (m) => `no ${m[1]} host key of it is pinned: another machine may answer there, or it was installed anew`,
  ],
  [/Host key verification failed/, "wrong-host-key", () => wrongHostKey()],
  [
    /Could not resolve hostname [^:\n]+: ([^\n]+)/,
    "unreachable",
    (m) => `its name cannot be resolved (${m[1]})`,
  ],
  [
    /bind \[?[^\s\]]+\]?:(\d+): ([^\n]+)/,
    "port-taken",
    (m) => `the local port ${m[1]} cannot be used (${m[2]})`,
  ],
  [/Could not request local forwarding/, "port-taken", () => "no local port could be opened for it"],
  [
    /connect to host \S+ port (\d+): Connection refused/,
    "unreachable",
    (m) => `nothing listens on its port ${m[1]} (connection refused)`,
  ],
  [
    /connect to host \S+ port \d+: Connection timed out/,
    "silent",
    () => "it does not answer (connection timed out)",
  ],
  [
    /Connection timed out during banner exchange/,
    "silent",
    () => "it takes connections, but does not speak SSH (timed out)",
  ],
  [/connect to host \S+ port \d+: ([^\n]+)/, "unreachable", (m) => `it cannot be reached (${m[1]?.trim()})`],
  [
    /banner exchange: .*invalid format|No SSH version received/,
    "malformed",
    () => "what listens there is no SSH server",
  ],
  [
    /Unable to negotiate with .*: no matching ([a-z ]+) found/,
    "failed",
    (m) => `it has no ${m[1]} in common with us`,
  ],
  [/Load key "([^"\n]+)": ([^\n]+)/, "failed", (m) => `the key ${m[1]} cannot be used (${m[2]})`],
  [/Too many authentication failures/, "key-refused", () => "it does not accept our key (too many attempts)"],
  [/Permission denied \(/, "key-refused", () => KEY_REFUSED],
  [
    /open failed: administratively prohibited/,
    "refused",
    () => "it does not let us through to the next hop: it was set up for another one",
  ],
  [
    // sshd tells its reason; a relay cannot, and has nothing after the colon whether it may not or could not.
    /open failed: connect failed:[ ]*([^\n]*)/,
    "unreachable",
    (m) => `it cannot reach the next hop (${m[1] || "not there, or it was set up for another one"})`,
  ],
  [/open failed: ([^\n]+)/, "refused", (m) => `it refused the channel (${m[1]})`],
  [/(exec|shell|subsystem) request failed/, "refused", () => "it refused what was asked of it"],
  [/Timeout, server \S+ not responding/, "silent", () => "it fell silent"],
  [
    /Connection (?:to \S+ )?(?:closed|reset) by|^Disconnected from /m,
    "closed",
    () => "it closed the connection",
  ],
  [/Connection timed out/, "silent", () => "the connection broke (Connection timed out)"],
  [
    /(Broken pipe|Connection reset by peer|Software caused connection abort)/,
    "broken",
    (m) => `the connection broke (${m[1]})`,
  ],
];

/**
 * Why ssh failed, on one line: "<peer>: <cause>". `peer` is how the user calls it, such as "proxy a:22"; `stderr` what ssh
 * printed, at log level INFO, in the locale C. What is not known is shown as its last line, made safe.
 */
export function explainSshFailure(stderr: string, peer: string): End {
  const text = stderr.slice(-LOOKED_AT).replaceAll("\r", "");
  for (const [pattern, kind, words] of CAUSES) {
    const match = pattern.exec(`${text}\n`);
    if (match !== null) return { kind, text: `${peer}: ${safeText(words(match), 400)}` };
  }
  const last = text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("Pseudo-terminal will not"))
    .at(-1);
  const words = last === undefined ? "ssh ended without a word" : safeText(last.trim(), 200);
  return { kind: "failed", text: `${peer}: ${words}` };
}

/** The lines in which an ssh tells that it could not forward a connection to what is behind the proxy; "" without. */
export function forwardFailures(stderr: string): string {
  return stderr
    .split("\n")
    .filter((line) => /\bopen failed: /.test(line))
    .join("\n");
}

/** What the server said on a command's standard error before it closed it ("walt: …" at the endpoint), if anything. */
export function serverWords(stderr: string): string | undefined {
  const words = /^walt: (.+?)\r?$/m.exec(stderr)?.[1];
  return words === undefined ? undefined : `the server refuses: ${safeText(words, 300)}`;
}
