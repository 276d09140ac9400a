/** `walt server backup` */

import { readFileSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { loadConfig, requireRole } from "../../config/load.ts";
import { codeOf, usageError, WaltError } from "../../errors.ts";
import { readText, writeFileAtomic } from "../../linux/files.ts";
import { makeBackup, openBackup } from "../../server/backup.ts";
import { encrypt } from "../../server/backup-cipher.ts";
import { size } from "../../text.ts";
import { command, configOption, print } from "../_command.ts";
import { encryptionOf, passphraseFileOption } from "./_secret.ts";

export default command({
  name: "walt server backup",
  description:
    "Write a backup of configuration, keys and registry, while the server runs. Who has it can be the server: encrypt it, or keep it as secret as the server itself",
  examples: [
    "sudo walt server backup walt-2026-03-01.backup --passphrase",
    "sudo walt server backup - --recipient age1… | ssh backup@store 'cat > walt.backup'",
  ],
  args: {
    file: { type: "positional", required: true, description: "The file to write; - for standard output" },
    passphrase: { type: "boolean", description: "Encrypt it with a passphrase, which is asked for" },
    ...passphraseFileOption,
    recipient: {
      type: "string",
      valueHint: "age1…",
      description: "Encrypt it for a public key of age; may be repeated",
    },
    ...configOption,
  },
  async run(args, every) {
    const config = requireRole(loadConfig(args.config), "server");
    const toStdout = args.file === "-";
    if (toStdout && process.stdout.isTTY)
      throw usageError(
        "a backup is no text for a terminal",
        "Name a file, or pipe it: walt server backup - | …",
      );
    const secret = await encryptionOf(args, every("recipient"));
    const text = config.file === undefined ? undefined : readText(config.file);
    const plain = await made(config.server.state, text);
    const bytes = secret === undefined ? plain : await encrypt(plain, secret);
    if (toStdout) {
      for (let done = 0; done < bytes.length; ) done += writeSync(1, bytes, done);
      return;
    }
    const file = resolve(args.file);
    writeFileAtomic(file, bytes, { mode: 0o600, exclusive: true });
    if (!readFileSync(file).equals(bytes)) throw new WaltError(`${file} is not what was written: see dmesg`);
    const { devices } = await openBackup(plain);
    const how = secret === undefined ? "not encrypted" : "encrypted";
    print(`${file} is written and verified: ${devices} devices, ${size(bytes.length)}, ${how}.`);
    print(`To use it: walt server restore ${args.file}`);
  },
});

async function made(state: string, config: string | undefined): Promise<Uint8Array> {
  try {
    return await makeBackup(state, config, new Date());
  } catch (error) {
    const code = codeOf(error instanceof WaltError ? error.cause : error);
    if (code !== "EACCES" && code !== "EPERM") throw error;
    throw new WaltError(`only root may read the server's keys in ${state}`, { hint: "Use sudo." });
  }
}
