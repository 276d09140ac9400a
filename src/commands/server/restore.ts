/** `walt server restore` */

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { refuseSecond } from "../../api/listen.ts";
import { DEFAULT_CONFIG, loadConfig, parseConfig, requireRole } from "../../config/load.ts";
import type { Config } from "../../config/schema.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { makeFolders, readText, writeFileAtomic } from "../../linux/files.ts";
import { type Backup, MAX_BACKUP, openBackup, restoreBackup } from "../../server/backup.ts";
import { decrypt, isEncrypted } from "../../server/backup-cipher.ts";
import { restoreCopy } from "../../server/registry-copies.ts";
import { confirm } from "../_ask.ts";
import { command, configOption, localTime, print } from "../_command.ts";
import { decryptionOf, passphraseFileOption } from "./_secret.ts";

const LATER =
  "Devices that were accepted later ask for access again (`walt vpn requests`). Revoke those again that were revoked later.";

export default command({
  name: "walt server restore",
  description:
    "Restore a backup, also on another machine; without FILE the newest whole copy of the registry, of which the daemon makes one a day. Stop the server first. What was there is kept beside it",
  examples: [
    "sudo walt server restore walt-2026-03-01.backup",
    "sudo walt server restore   # the newest copy of the registry",
  ],
  args: {
    file: { type: "positional", required: false, description: "The backup; - for standard input" },
    ...passphraseFileOption,
    identity: {
      type: "string",
      alias: "i",
      valueHint: "file",
      description: "The private key of age for which the backup was encrypted",
    },
    yes: { type: "boolean", description: "Do not ask before keys and registry are replaced" },
    ...configOption,
  },
  async run(args) {
    if (args.file === undefined) return await fromCopy(args.config);
    const bytes = readBackup(args.file);
    const plain = isEncrypted(bytes)
      ? await decrypt(bytes, await decryptionOf(args["passphrase-file"], args.identity))
      : bytes;
    await fromBackup(await openBackup(plain), args.config, args.yes);
  },
});

async function fromCopy(option: string | undefined): Promise<void> {
  const { server } = requireRole(loadConfig(option), "server");
  await refuseSecond(server.socket);
  const { path, taken, devices, before } = restoreCopy(server.state, new Date());
  print(`The registry is now ${path}, taken ${localTime(taken.toISOString())}: ${devices} devices.`);
  if (before !== undefined) print(`The one from before is ${before}.`);
  print(LATER);
}

async function fromBackup(
  backup: Backup,
  option: string | undefined,
  yes: boolean | undefined,
): Promise<void> {
  const { file, config, isNew } = configurationFor(backup, option);
  const { state, socket } = requireRole(config, "server").server;
  await refuseSecond(socket);
  const about = `The backup is of ${localTime(backup.taken.toISOString())}, with ${backup.devices} devices.`;
  if (existsSync(join(state, "keys")) && !yes) {
    if (process.stdin.isTTY) process.stderr.write(`${about}\n`);
    if (!(await confirm(`Replace the keys and the registry in ${state}?`, "--yes")))
      throw new WaltError("the answer was no: nothing was changed");
  }
  const { before } = restoreBackup(backup, state, new Date());
  print(`${about} It is restored in ${state}.`);
  for (const path of before) print(`What was there before is ${path}.`);
  if (isNew && backup.config !== undefined) {
    makeFolders(dirname(file), 0o755);
    writeFileAtomic(file, backup.config, { exclusive: true });
    print(`${file} is that of the backup.`);
  } else if (backup.config !== undefined && readText(file) !== backup.config) {
    const beside = `${file}.backup`;
    writeFileAtomic(beside, backup.config);
    print(`${file} differs from that of the backup, and was kept. The other one is ${beside}.`);
  }
  print(LATER);
  print(
    "Next: walt server install, if it is not installed here, and systemctl start walt-vpn. On another machine, let the name in `server.address` lead to it.",
  );
}

/** The configuration of this machine; if there is none, that of the backup. */
function configurationFor(
  backup: Backup,
  option: string | undefined,
): { file: string; config: Config; isNew: boolean } {
  const file = option ?? (process.env["WALT_CONFIG"] || DEFAULT_CONFIG);
  const isNew = !existsSync(file);
  return { file, config: isNew ? parseConfig(backup.config ?? "", file) : loadConfig(option), isNew };
}

function readBackup(file: string): Uint8Array {
  try {
    const bytes = readFileSync(file === "-" ? 0 : file);
    if (bytes.length > MAX_BACKUP) throw new Error(`it has more than ${MAX_BACKUP} bytes`);
    return new Uint8Array(bytes);
  } catch (error) {
    throw new WaltError(`cannot read ${file === "-" ? "standard input" : file}: ${messageOf(error)}`);
  }
}
