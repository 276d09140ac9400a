/** What encrypts a backup, or decrypts it, as options say. A passphrase is never an argument. */

import type { ArgsDef } from "citty";
import { usageError, WaltError } from "../../errors.ts";
import { readText } from "../../linux/files.ts";
import type { Secret } from "../../server/backup-cipher.ts";
import { askSecret } from "../_ask.ts";

export const passphraseFileOption = {
  "passphrase-file": {
    type: "string",
    valueHint: "file",
    description: "The first line of this file is the passphrase",
  },
} as const satisfies ArgsDef;

/** Bytes of a file with a passphrase or keys. */
const MAX_FILE = 65_536;
const ASK_OPTION = "--passphrase-file";

export interface EncryptionArgs {
  readonly passphrase?: boolean | undefined;
  readonly "passphrase-file"?: string | undefined;
}

/**
 * What a backup is to be encrypted with; undefined if it is not to be.
 * @throws WaltError (usage) when the options exclude each other, or nobody can be asked.
 */
export async function encryptionOf(
  args: EncryptionArgs,
  recipients: readonly string[],
): Promise<Secret | undefined> {
  const file = args["passphrase-file"];
  const ways = [args.passphrase, file !== undefined, recipients.length > 0].filter(Boolean);
  if (ways.length > 1) throw usageError("--passphrase, --passphrase-file and --recipient exclude each other");
  if (recipients.length > 0) return { recipients };
  if (file !== undefined) return { passphrase: firstLine(file) };
  if (!args.passphrase) return undefined;
  const passphrase = await askSecret("Passphrase", ASK_OPTION);
  if ((await askSecret("The same again", ASK_OPTION)) !== passphrase)
    throw new WaltError("the two passphrases differ; no backup was made");
  return { passphrase };
}

/** What an encrypted backup is decrypted with. @throws WaltError (usage) when nobody can be asked. */
export async function decryptionOf(
  passphraseFile: string | undefined,
  identityFile: string | undefined,
): Promise<Secret> {
  if (passphraseFile !== undefined && identityFile !== undefined)
    throw usageError("--passphrase-file and --identity exclude each other");
  if (identityFile !== undefined) return { identities: identitiesOf(identityFile) };
  if (passphraseFile !== undefined) return { passphrase: firstLine(passphraseFile) };
  return { passphrase: await askSecret("Passphrase of the backup", ASK_OPTION) };
}

function firstLine(file: string): string {
  const line = readText(file, MAX_FILE).split(/\r?\n/, 1)[0] ?? "";
  if (line === "") throw new WaltError(`${file} is empty: there is no passphrase in it`);
  return line;
}

/** The private keys of a file as `age-keygen` writes it. */
function identitiesOf(file: string): string[] {
  const lines = readText(file, MAX_FILE).split(/\r?\n/);
  const keys = lines.map((line) => line.trim()).filter((line) => line.startsWith("AGE-SECRET-KEY-"));
  if (keys.length === 0) throw new WaltError(`${file} has no private key of age (AGE-SECRET-KEY-…)`);
  return keys;
}
