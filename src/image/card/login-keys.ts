/** Who may log in to the board's own system: public keys as the card has them, `authorized_keys` on its boot partition. */

import { usageError, WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";

/** What the card's sshd knows (dropbear(8)); a key with another name, or one held by another program, is not ours to judge. */
const TYPES =
  /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)$/;
const MAX_FILE = 65_536;
const MAX_KEYS = 64;

/**
 * The file out of one with public keys on lines of their own, as ssh-keygen(1) writes them.
 * @throws WaltError (usage) naming the line that is no public key.
 */
export function loginKeysFile(path: string): string {
  const text = readTextIfAny(path, MAX_FILE);
  if (text === undefined) throw new WaltError(`${path} does not exist`);
  if (text.includes("PRIVATE KEY"))
    throw usageError(
      `${path} is a private key, which belongs on no card`,
      "Name its public half: the .pub beside it.",
    );
  const lines = text.split("\n").map((line, index) => ({ line: line.trim(), number: index + 1 }));
  const keys = lines
    .filter(({ line }) => line !== "" && !line.startsWith("#"))
    .map(({ line, number }) => {
      const key = publicKeyOf(line);
      if (key === undefined)
        throw usageError(
          `${path}, line ${number}, is not a public key`,
          "A line is a key's type, the key, and a comment, as in id_ed25519.pub; options before it are not taken.",
        );
      return key;
    });
  if (keys.length === 0 || keys.length > MAX_KEYS)
    throw usageError(`${path} has ${keys.length} public keys; from 1 to ${MAX_KEYS} are taken`);
  return `${keys.join("\n")}\n`;
}

/** One line, its comment without anything that a terminal would heed. Undefined where it is no key. */
function publicKeyOf(line: string): string | undefined {
  const [type = "", data = "", ...comment] = line.split(/[ \t]+/);
  if (!TYPES.test(type) || !/^[A-Za-z0-9+/]{32,4096}={0,2}$/.test(data)) return undefined;
  // RFC 4253, 6.6: the blob begins with the type, as a string with its length in front.
  const blob = Buffer.from(data, "base64");
  const length = blob.length < 4 ? 0 : blob.readUInt32BE(0);
  if (blob.toString("latin1", 4, 4 + length) !== type) return undefined;
  const words = comment.join(" ").replace(/[^\x21-\x7e ]/g, "");
  return words === "" ? `${type} ${data}` : `${type} ${data} ${words}`;
}
