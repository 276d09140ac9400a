/** The three files that a device starts from. */

import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { stringify } from "smol-toml";
import { type Entrypoint, formatEntrypoint, formatHostPort, type HostPort } from "../../address.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { syncFolder, temporaryFolder, writeFileAtomic } from "../../linux/files.ts";
import { started } from "../../linux/run.ts";
import { knownHostsLine } from "../../ssh/keys/known-hosts.ts";
import { SERVER_ALIAS } from "../../ssh/openssh/arguments.ts";
import type { Trust } from "./_trust.ts";

/** Names and contents. */
export type DeviceFiles = Record<"vpn.toml" | "known_hosts" | "enrolment_key", string> & {
  /** Where boards are accepted without asking. */
  enrolment_token?: string;
};

const MODES: Required<Record<keyof DeviceFiles, number>> = {
  "vpn.toml": 0o644,
  known_hosts: 0o644,
  enrolment_key: 0o600,
  enrolment_token: 0o600,
};

export interface DeviceConfiguration {
  /** At least one, the preferred one first. */
  entrypoints: readonly Entrypoint[];
  /** The server as the last proxy names it. */
  server: HostPort;
  board: string;
  /** Lines of known_hosts for the proxies. */
  hostKeys: readonly string[];
  /** A token, with which the server accepts the boards without asking. */
  token?: string | undefined;
}

export function deviceFiles(o: DeviceConfiguration, trust: Trust): DeviceFiles {
  return {
    "vpn.toml": stringify({
      role: "device",
      device: {
        entrypoint: only(o.entrypoints.map(formatEntrypoint)),
        server: formatHostPort(o.server),
        board: o.board,
      },
    }),
    known_hosts: `${[...trust.serverKeys.map((key) => knownHostsLine(SERVER_ALIAS, key)), ...o.hostKeys].join("\n")}\n`,
    enrolment_key: trust.enrolmentPrivateKey,
    ...(o.token === undefined ? {} : { enrolment_token: `${o.token}\n` }),
  };
}

/** An entrypoint alone stands in the configuration without the brackets of an array. */
function only(names: readonly string[]): string | string[] {
  const [first = "", ...others] = names;
  return others.length === 0 ? first : [first, ...others];
}

/** @throws WaltError when there is something already, or no folder to make it in. */
export function refuseExisting(path: string): void {
  if (existsSync(path)) {
    throw new WaltError(`${path} exists already`, {
      hint: "Nothing was written. Move it away, or name another one with -o.",
    });
  }
  if (!existsSync(dirname(path))) throw new WaltError(`${dirname(path)} does not exist`);
}

/**
 * The folder appears with all its files, or not at all.
 * @throws WaltError when it cannot be written.
 */
export function writeFolder(folder: string, files: DeviceFiles): void {
  let temp: string | undefined;
  try {
    temp = mkdtempSync(`${folder}.`);
    for (const [name, mode] of Object.entries(MODES)) {
      const text = files[name as keyof DeviceFiles];
      if (text !== undefined) writeFileAtomic(join(temp, name), text, { mode });
    }
    mkdirSync(folder); // fails when somebody else made it meanwhile
    try {
      renameSync(temp, folder);
      syncFolder(dirname(folder));
    } catch (error) {
      rmSync(folder, { recursive: true, force: true }); // what could not be written is not there
      throw error;
    }
  } catch (error) {
    if (temp !== undefined) rmSync(temp, { recursive: true, force: true });
    if (error instanceof WaltError) throw error;
    throw new WaltError(`cannot write ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

/** The folder's files as a tar archive, with their modes. */
export async function folderArchive(files: DeviceFiles): Promise<Uint8Array> {
  const folder = temporaryFolder();
  try {
    const inside = join(folder, "files");
    writeFolder(inside, files);
    const child = started("tar", () =>
      Bun.spawn(["tar", "-c", "--owner=0", "--group=0", "--numeric-owner", "-C", inside, "."], {
        stdio: ["ignore", "pipe", "inherit"],
      }),
    );
    const bytes = await child.stdout.bytes();
    if ((await child.exited) !== 0) throw new WaltError("tar failed: its message is above");
    return bytes;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
