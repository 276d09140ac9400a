/** `walt server install`: the systemd unit, the configuration and the folders. */

import { existsSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { groupId } from "../api/listen.ts";
import { messageOf, WaltError } from "../errors.ts";
import { makeFolders, readTextIfAny, writeFileAtomic } from "../linux/files.ts";
import { run } from "../linux/run.ts";
import unitTemplate from "./walt-server.service" with { type: "text" };

/** systemd confines the service: it cannot see /home, /root and /tmp. */
const BINARY = "/usr/local/bin/walt";
const CONFIG_FOLDER = "/etc/walt";
const UNIT_FOLDER = "/etc/systemd/system";

const CONFIG_TEMPLATE = `role = "server"

# Every key has a default; docs/configuration.md explains them, \`walt config show\` prints them.
[server]
# How proxies reach this server; its host name unless told.
# address = "walt.lab.example:2222"

[server.network]
# false when walt-net exists already, on a WalT server for example.
# managed = true
`;

/** The unit for a binary and a configuration. */
export function serverUnit(binary: string, config: string): string {
  // systemd.unit(5): "%" begins a specifier, and a path with blanks needs quotes.
  const word = (text: string): string => `"${text.replaceAll("%", "%%").replaceAll('"', '\\"')}"`;
  return unitTemplate.replace("@BINARY@", () => word(binary)).replace("@CONFIG@", () => word(config));
}

/**
 * Install for systemd. The binary goes where the confined service can see it. An existing configuration is left as it is;
 * binary and unit are ours and are made new where they differ.
 * @param binary the compiled walt that runs now
 * @returns what was done, a line each.
 * @throws WaltError when something cannot be written.
 */
export async function installServer(binary: string, group: string): Promise<string[]> {
  const done: string[] = [];
  const config = join(CONFIG_FOLDER, "walt.toml");
  const unit = join(UNIT_FOLDER, "walt-server.service");
  try {
    for (const folder of [dirname(BINARY), CONFIG_FOLDER, UNIT_FOLDER, "/var/lib/walt/boot"]) {
      makeFolders(folder, 0o755);
    }
  } catch (error) {
    throw new WaltError(`cannot install: ${messageOf(error)}`, { hint: "Run it as root.", cause: error });
  }
  done.push(`${BINARY}: ${installBinary(binary)}`);
  if (groupId(group) === undefined) {
    await run(["groupadd", "--system", group]);
    done.push(`group ${group}: made; its members may use walt's commands (usermod -aG ${group} USER)`);
  }
  if (existsSync(config)) {
    done.push(`${config}: left as it is`);
  } else {
    writeFileAtomic(config, CONFIG_TEMPLATE, { exclusive: true });
    done.push(`${config}: written`);
  }
  const text = serverUnit(BINARY, config);
  if (readTextIfAny(unit) === text) {
    done.push(`${unit}: unchanged`);
  } else {
    writeFileAtomic(unit, text);
    done.push(`${unit}: written`);
  }
  return done;
}

/** Copy the running binary to its place, if it is not the one that is there. */
function installBinary(binary: string): string {
  if (existsSync(BINARY) && realpathSync(BINARY) === realpathSync(binary)) return "unchanged";
  const content = readFileSync(binary);
  if (existsSync(BINARY) && readFileSync(BINARY).equals(content)) return "unchanged";
  writeFileAtomic(BINARY, content, { mode: 0o755 });
  return `copied from ${binary}`;
}
