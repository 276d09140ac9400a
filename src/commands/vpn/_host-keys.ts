/** The host keys of proxies, to be pinned on devices: scanned and confirmed, or out of a file. */

import { existsSync } from "node:fs";
import { formatHostPort, type HostPort } from "../../address.ts";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { runAny } from "../../linux/run.ts";
import { knownHostsLine, scanHostKeys } from "../../ssh/keys/known-hosts.ts";
import { confirm } from "../_ask.ts";

/**
 * Lines of known_hosts for these proxies.
 * @param file a known_hosts file with their keys; they are scanned, shown and confirmed unless given.
 * @param yes the scanned keys are trusted without asking.
 * @throws WaltError when a key cannot be had, or is not confirmed.
 */
export async function pinnedHostKeys(
  proxies: readonly HostPort[],
  o: { file: string | undefined; yes: boolean },
): Promise<string[]> {
  const lines: string[] = [];
  for (const proxy of proxies) {
    const keys = o.file === undefined ? await scanned(proxy) : await checked(proxy, o.file);
    lines.push(...keys.map((key) => knownHostsLine(formatHostPort(proxy), key)));
  }
  if (o.file !== undefined || o.yes || proxies.length === 0) return lines;
  const question =
    "Are these the host keys of your proxies? Compare them with the output of `ssh-keygen -lf` there.";
  if (await confirm(question, "--yes")) return lines;
  throw new WaltError("the host keys were not confirmed; nothing was written");
}

/** Host keys from the network, shown with their fingerprints. */
async function scanned(proxy: HostPort): Promise<string[]> {
  let keys: string[];
  try {
    keys = await scanHostKeys(proxy);
  } catch (error) {
    throw new WaltError(messageOf(error), {
      hint: "If this machine cannot reach the proxy, collect the keys on one that can, and use --known-hosts FILE.",
      cause: error,
    });
  }
  const { stdout } = await runAny(["ssh-keygen", "-l", "-f", "-"], {
    input: keys.map((key) => `${key}\n`).join(""),
  });
  process.stderr.write(
    `Host keys of ${formatHostPort(proxy)}:\n${stdout
      .trim()
      .split("\n")
      .map((line) => `  ${line.replace(" no comment", "")}\n`)
      .join("")}`,
  );
  return keys;
}

/** Host keys out of a known_hosts file, hashed names included. */
async function checked(proxy: HostPort, file: string): Promise<string[]> {
  if (!existsSync(file)) throw new WaltError(`${file} does not exist`);
  const name = proxy.port === 22 ? proxy.host : `[${proxy.host}]:${proxy.port}`;
  const { stdout } = await runAny(["ssh-keygen", "-F", name, "-f", file]);
  const keys = stdout
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#") && !line.startsWith("@"))
    .map((line) => line.split(/\s+/).slice(1, 3).join(" "));
  if (keys.length === 0)
    throw usageError(
      `${file} has no host key of ${name}`,
      `Add its host key, for example the output of: ssh-keyscan -p ${proxy.port} ${proxy.host}`,
    );
  return keys;
}
