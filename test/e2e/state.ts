/** What a boot makes of a card's state partition, found out without booting. */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readCredentials } from "../../src/device/identity/credentials.ts";
import { WaltError } from "../../src/errors.ts";
import { readTextIfAny } from "../../src/linux/files.ts";
import { run, runAny } from "../../src/linux/run.ts";
import { loadKey } from "../../src/ssh/keys/key-files.ts";

export interface StateCheck {
  /** The device's private key, as a file has it; undefined when it has not made one yet. */
  key: string | undefined;
  /** What its credentials say it is; undefined when there are none. */
  node: string | undefined;
  /** It took more than replaying the journal. */
  thorough: boolean;
}

/**
 * Check the file system as a boot does, and read what is in it.
 * @param file the partition, which is repaired.
 * @param folder where its content may be put.
 * @throws WaltError when a boot would make the partition anew, or when a file in it is neither whole nor missing.
 */
export async function checkState(file: string, folder: string): Promise<StateCheck> {
  // As device/root/usr/lib/walt/start does it: a superblock of which one sector is written takes the second.
  const gentle = await runAny(["e2fsck", "-p", file]);
  const thorough = gentle.status >= 4;
  if (thorough) {
    const { status, stdout } = await runAny(["e2fsck", "-f", "-y", file]);
    if (status >= 4) throw new WaltError(`e2fsck cannot repair it (exit ${status}): ${stdout.trim()}`);
  }
  const root = join(folder, "root");
  mkdirSync(root);
  await run(["debugfs", "-R", `rdump / ${root}`, file]);
  const path = (name: string): string => join(root, name);
  try {
    const key = readTextIfAny(path("device_key"));
    if (key === undefined) return { key, node: undefined, thorough };
    const files = {
      state: root,
      certificate: path("device-certificate.pub"),
      nextCertificate: path("device-certificate-next.pub"),
      credentials: path("credentials.json"),
    };
    const found = readCredentials(files, loadKey(path("device_key")).publicKey, (why) => {
      throw new WaltError(`the credentials are damaged: ${why}`);
    });
    return { key, node: found?.node, thorough };
  } finally {
    rmSync(root, { recursive: true });
  }
}
