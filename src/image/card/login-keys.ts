/** The public keys that may log in to a board or a node: the `authorized_keys` of an image. */

import { usageError, WaltError } from "../../errors.ts";
import { readEditedIfAny } from "../../linux/files.ts";

/** Types of keys that the SSH servers of both know: dropbear(8), sshd(8). */
const TYPES =
  /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)$/;
/** Bytes. */
const MAX_FILE = 65_536;
const MAX_KEYS = 64;

/**
 * The content of `authorized_keys`, made from the user's file of public keys: one a line, as ssh-keygen(1)
 * writes them.
 * @param path of the user's file.
 * @throws WaltError when the file does not exist, or (usage) when it holds a private key, when a line is not
 *   a public key, or when it has no keys or too many.
 */
export function loginKeysFile(path: string): string {
  const text = readEditedIfAny(path, MAX_FILE);
  if (text === undefined) throw new WaltError(`${path} does not exist`);
  if (text.includes("PRIVATE KEY"))
    throw usageError(
      `${path} is a private key, which must not be in an image`,
      "Name the file with the public key, which ends in .pub.",
    );
  const lines = text.split("\n").map((line, index) => ({ line: line.trim(), number: index + 1 }));
  const keys = lines
    .filter(({ line }) => line !== "" && !line.startsWith("#"))
    .map(({ line, number }) => {
      const key = publicKeyOf(line);
      if (key === undefined)
        throw usageError(
          `${path}, line ${number}, is not a public key`,
          "A line has a key's type, the key and a comment, as in id_ed25519.pub, without options before it.",
        );
      return key;
    });
  if (keys.length === 0 || keys.length > MAX_KEYS)
    throw usageError(`${path} has ${keys.length} public keys instead of 1 to ${MAX_KEYS}`);
  return `${keys.join("\n")}\n`;
}

/** A line with a key, its comment without control characters; undefined when the line is not a public key. */
function publicKeyOf(line: string): string | undefined {
  const [type = "", data = "", ...comment] = line.split(/[ \t]+/);
  if (!TYPES.test(type) || !/^[A-Za-z0-9+/]{32,4096}={0,2}$/.test(data)) return undefined;
  // The binary form of a key begins with its type, as a string with its length in front (RFC 4253, 6.6).
  const blob = Buffer.from(data, "base64");
  const length = blob.length < 4 ? 0 : blob.readUInt32BE(0);
  if (blob.toString("latin1", 4, 4 + length) !== type) return undefined;
  const words = comment.join(" ").replace(/[^\x21-\x7e ]/g, "");
  return words === "" ? `${type} ${data}` : `${type} ${data} ${words}`;
}
