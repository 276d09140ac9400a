/**
 * The host keys that nodes have shown to this user: a file in the form of known_hosts (sshd(8)), which ssh reads.
 * A node has a key for each image that it has booted. They are under the node's MAC address, which stays when the
 * node gets another name.
 */

import { homedir } from "node:os";
import { join } from "node:path";
import { makeFolders, readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import { fingerprintOfBlob } from "../../ssh/keys/ed25519.ts";
import { knownHostsLine } from "../../ssh/keys/known-hosts.ts";

/** Keys that are kept of a node, the newest ones. */
const MAX_KEYS = 20;
/** Bytes of the file. */
const MAX_FILE = 4 << 20;

/** A host key that a node has shown. */
export interface KnownKey {
  /** Of the node. */
  readonly mac: string;
  /** "keytype base64" */
  readonly key: string;
  /** The node's name when its key was learnt. */
  readonly name: string;
  /** When that was, in ISO 8601. */
  readonly learnt: string;
}

export class KnownNodes {
  constructor(readonly path = join(homedir(), ".ssh", "walt_known_nodes")) {}

  /** The keys of a node, in the order in which they were learnt. @throws WaltError if the file cannot be read. */
  keysOf(mac: string): KnownKey[] {
    return this.#keys().filter((one) => one.mac === mac);
  }

  /** Other nodes that have shown a key: their names, each once. @throws as `keysOf`. */
  othersWith(key: string, mac: string): string[] {
    const others = this.#keys().filter((one) => one.key === key && one.mac !== mac);
    return [...new Set(others.map(({ name }) => name))];
  }

  /** Keep a key. Other lines of the file stay as they are. @throws WaltError when the file cannot be written. */
  learn({ mac, key, name, learnt }: KnownKey): void {
    const old = this.keysOf(mac);
    const surplus = old.slice(0, Math.max(0, old.length - MAX_KEYS + 1)).map((one) => one.key);
    const kept = this.#lines().filter((line) => {
      const one = keyOf(line);
      return one === undefined || one.mac !== mac || !(surplus.includes(one.key) || one.key === key);
    });
    makeFolders(join(this.path, ".."), 0o700);
    const lines = [...kept, `${knownHostsLine(mac, key)} ${name} ${learnt}`];
    writeFileAtomic(this.path, lines.map((line) => `${line}\n`).join(""), { mode: 0o600 });
  }

  #lines(): string[] {
    const text = readTextIfAny(this.path, MAX_FILE) ?? "";
    return text.split("\n").filter((line) => line !== "");
  }

  #keys(): KnownKey[] {
    return this.#lines().flatMap((line) => keyOf(line) ?? []);
  }
}

/** The key of a line; undefined if it is not one of ours. */
function keyOf(line: string): KnownKey | undefined {
  const [mac = "", type, base64, name, learnt] = line.trim().split(/ +/);
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac) || base64 === undefined) return undefined;
  return { mac, key: `${type} ${base64}`, name: name ?? "", learnt: learnt ?? "" };
}

/** The first key in a text in the form of known_hosts, as "keytype base64"; undefined if it has none. */
export function firstKey(text: string): string | undefined {
  const [, key] = /^\S+ ([a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2})/m.exec(text) ?? [];
  return key;
}

/** How ssh shows a key: `ED25519 SHA256:…`. @param key "keytype base64" */
export function shownKey(key: string): string {
  const [type = "", base64 = ""] = key.split(" ");
  const short = type.replace(/^(ssh|ecdsa-sha2|sk-ssh)-/, "").replace(/@.*/, "");
  return `${short.toUpperCase()} ${fingerprintOfBlob(Buffer.from(base64, "base64"))}`;
}
