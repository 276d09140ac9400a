/**
 * Encryption of backups in the age format (age-encryption.org/v1): with a passphrase, or for the keys of
 * operators. The program `age` reads and writes the same.
 */

import { Decrypter, Encrypter } from "age-encryption";
import { messageOf, WaltError } from "../errors.ts";

/** What an encrypted file begins with. */
const MAGIC = Buffer.from("age-encryption.org/v1\n");

export type Secret =
  /** A passphrase for both directions. */
  | { readonly passphrase: string }
  /** To encrypt: public keys, `age1…`. */
  | { readonly recipients: readonly string[] }
  /** To decrypt: private keys, `AGE-SECRET-KEY-1…`. */
  | { readonly identities: readonly string[] };

export function isEncrypted(bytes: Uint8Array): boolean {
  return MAGIC.equals(bytes.subarray(0, MAGIC.length));
}

/** @throws WaltError when a recipient is none. */
export async function encrypt(bytes: Uint8Array, secret: Secret): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  if ("passphrase" in secret) encrypter.setPassphrase(secret.passphrase);
  for (const one of "recipients" in secret ? secret.recipients : []) {
    try {
      encrypter.addRecipient(one);
    } catch (error) {
      throw new WaltError(`${JSON.stringify(one)} is no public key of age: ${messageOf(error)}`, {
        hint: "It begins with `age1`; `age-keygen` makes one.",
      });
    }
  }
  return await encrypter.encrypt(bytes);
}

/** @throws WaltError when the secret does not fit, or the file is damaged. */
export async function decrypt(bytes: Uint8Array, secret: Secret): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  try {
    if ("passphrase" in secret) decrypter.addPassphrase(secret.passphrase);
    for (const one of "identities" in secret ? secret.identities : []) decrypter.addIdentity(one);
    return await decrypter.decrypt(bytes);
  } catch (error) {
    throw new WaltError(`the backup cannot be decrypted: ${messageOf(error)}`, {
      hint: "Is it the right passphrase or key, and is the file whole?",
    });
  }
}
