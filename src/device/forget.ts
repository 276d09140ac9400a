/** `walt device forget`: the device's key and credentials are deleted, so that it asks for access like a new one. */

import { isListenedOn } from "../api/listen.ts";
import type { Config } from "../config/schema.ts";
import { WaltError } from "../errors.ts";
import { runFiles, stateFiles } from "./files.ts";
import { removeCredentials } from "./identity/credentials.ts";

/**
 * Delete device_key, device_key.pub, the certificate and credentials.json; the paths of those that were there.
 * @throws WaltError while `walt device run` is alive on the same run folder, or when a file cannot be deleted.
 */
export async function forgetCredentials(config: Config): Promise<string[]> {
  const { socket } = runFiles(config);
  if (await isListenedOn(socket)) {
    throw new WaltError(`\`walt device run\` is running (${socket}): it would go on with what it knows`, {
      hint: "Stop it first (`systemctl stop walt`, or ^C), then forget, then start it again.",
    });
  }
  return removeCredentials(stateFiles(config));
}
