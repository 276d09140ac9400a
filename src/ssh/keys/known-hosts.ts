/** Host keys: lines of a known_hosts file, and asking a host for its keys. */

import { formatHostPort, type HostPort } from "../../address.ts";
import { WaltError } from "../../errors.ts";
import { runAny } from "../../linux/run.ts";
import { safeText } from "../../text.ts";
import { KEY_TYPE, type PublicKey, parsePublicKey, publicKeyLine } from "./ed25519.ts";

/** Key types that are worth pinning: no DSA, no security keys (nobody's sshd has one as host key). */
const TYPES = "ed25519,ecdsa,rsa";

/**
 * A line of known_hosts, without a line break. `name` is looked up literally by HostKeyAlias, so that "host:port" will do.
 * `key` is ours, or "keytype base64" of any type.
 * @throws WaltError when a part could mean anything else to ssh (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
 */
export function knownHostsLine(name: string, key: PublicKey | string): string {
  // No "|", "@", "#" at the beginning, no "*", "?", "!", "," anywhere: these have a meaning there.
  if (!/^[A-Za-z0-9[][A-Za-z0-9._:[\]-]{0,299}$/.test(name)) {
    throw new WaltError(`"${safeText(name, 60)}" cannot stand in known_hosts`);
  }
  const [type = "", base64 = ""] = (typeof key === "string" ? key : publicKeyLine(key)).split(" ");
  if (!/^[a-z0-9@.-]{1,80}$/.test(type) || !/^[A-Za-z0-9+/]{16,8192}={0,2}$/.test(base64)) {
    throw new WaltError(`the host key of ${name} is malformed`);
  }
  return `${name} ${type} ${base64}`;
}

/**
 * The ed25519 keys that stand under a name in a known_hosts file as `knownHostsLine` writes it.
 * @throws WaltError when there is none.
 */
export function pinnedKeys(text: string, name: string, where: string): PublicKey[] {
  const keys = text.split("\n").flatMap((line) => {
    const [names = "", type, base64] = line.trim().split(/ +/);
    if (!names.split(",").includes(name) || type !== KEY_TYPE) return [];
    return [parsePublicKey(`${type} ${base64}`, where)];
  });
  if (keys.length === 0) throw new WaltError(`${where}: no ${KEY_TYPE} key of ${name}`);
  return keys;
}

/**
 * The public host keys of an SSH server, as it shows them itself: somebody must confirm them. "keytype base64" each.
 * @throws WaltError when it cannot be reached or is no SSH server.
 */
export async function scanHostKeys(a: HostPort): Promise<string[]> {
  const command = ["ssh-keyscan", "-T", "10", "-t", TYPES, "-p", String(a.port), "--", a.host];
  const { stdout, stderr } = await runAny(command, { timeout: 60_000 });
  const keys = new Set<string>();
  for (const line of stdout.slice(0, 65_536).split("\n")) {
    const match = /^\S+ ([a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2})$/.exec(line);
    if (match?.[1] !== undefined) keys.add(match[1]);
  }
  if (keys.size === 0) {
    // ssh-keyscan says why, if at all, on lines that are no comments; a refused connection it does not mention.
    const said = stderr.split("\n").find((line) => line !== "" && !line.startsWith("#"));
    const why = said === undefined ? "no SSH server answered" : safeText(said, 160);
    throw new WaltError(`cannot get the host keys of ${formatHostPort(a)}: ${why}`, {
      hint: "Is the address right, is sshd running there, and can this machine reach it?",
    });
  }
  return [...keys].sort();
}
