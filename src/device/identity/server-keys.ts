/**
 * The server's keys as a device knows them: what `walt vpn setup-node` wrote beside vpn.toml, until the server has
 * said something newer. The server says all that are good with each certificate; so it can change its keys.
 */

import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { withoutHosts } from "../../config/settings.ts";
import { parseServerKeys, type ServerKeysSaid } from "../../enrolment/messages.ts";
import { messageOf } from "../../errors.ts";
import { readEdited, readTextIfAny, writeFileAtomic } from "../../linux/files.ts";
import { Fields } from "../../parse.ts";
import { knownHostsLine } from "../../ssh/keys/known-hosts.ts";
import { SERVER_ALIAS } from "../../ssh/openssh/arguments.ts";
import type { DeviceFiles } from "../files.ts";

type Files = Pick<
  DeviceFiles,
  "knownHosts" | "enrolmentKey" | "serverKeys" | "trustedHosts" | "trustedEnrolmentKeys"
>;

/** Keep what the server has said. @throws WaltError when it cannot be written. */
export function writeServerKeys(files: Files, said: ServerKeysSaid): void {
  writeFileAtomic(files.serverKeys, `${JSON.stringify({ card: cardOf(files), ...said })}\n`, { mode: 0o600 });
}

/**
 * Write what ssh is given into the run folder. ssh refuses a private key that others can read, and on an SD
 * card's boot partition (FAT) everybody can read every file.
 * @param enrols whether the server has enrolment; otherwise it says nothing of its keys.
 * @param damaged called with the reason when what the server said cannot be read: then the card's keys count.
 * @param set lines of known_hosts that an operator set, in place of the card's for the same hosts.
 * @throws WaltError when a file cannot be read or written.
 */
export function trustServerKeys(
  files: Files,
  enrols: boolean,
  damaged: (why: string) => void,
  set: readonly string[] = [],
): void {
  const card = [...set, ...withoutHosts(readEdited(files.knownHosts, 1 << 20).split("\n"), set)].join("\n");
  const said = enrols ? readServerKeys(files, damaged) : undefined;
  const hosts =
    said === undefined
      ? card
      : [
          ...said.hostKeys.map((key) => knownHostsLine(SERVER_ALIAS, key)),
          ...card.split("\n").filter((line) => line.split(/\s/, 1)[0] !== SERVER_ALIAS),
        ].join("\n");
  writeFileAtomic(files.trustedHosts, hosts);
  const keys = !enrols ? [] : (said?.enrolmentKeys ?? [readEdited(files.enrolmentKey)]);
  for (const [index, file] of files.trustedEnrolmentKeys.entries()) {
    const key = keys[index];
    if (key === undefined) rmSync(file, { force: true });
    else writeFileAtomic(file, key, { mode: 0o600 });
  }
}

/** Remove what ssh was given. */
export function removeTrustedKeys(files: Pick<Files, "trustedHosts" | "trustedEnrolmentKeys">): void {
  for (const file of [files.trustedHosts, ...files.trustedEnrolmentKeys]) rmSync(file, { force: true });
}

/** What the server said last, if it was said to a device with this card; undefined where there is nothing. */
function readServerKeys(files: Files, damaged: (why: string) => void): ServerKeysSaid | undefined {
  const text = readTextIfAny(files.serverKeys);
  if (text === undefined) return undefined;
  try {
    const fields = Fields.parse(text, files.serverKeys);
    const said = parseServerKeys(fields);
    // With another card the device may belong to another server, and the card tells more recent keys.
    const same = fields.text("card", 64) === cardOf(files);
    return same && said.hostKeys.length > 0 && said.enrolmentKeys.length > 0 ? said : undefined;
  } catch (error) {
    damaged(messageOf(error));
    return undefined;
  }
}

/** What tells one card's keys from another's: a hash, in hexadecimal. */
function cardOf({ knownHosts, enrolmentKey }: Files): string {
  const hash = createHash("sha256");
  const lines = readEdited(knownHosts, 1 << 20).split("\n");
  for (const line of lines.filter((one) => one.split(/\s/, 1)[0] === SERVER_ALIAS)) hash.update(`${line}\n`);
  return hash.update(readEdited(enrolmentKey)).digest("hex");
}
