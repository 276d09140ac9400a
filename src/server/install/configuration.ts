/** The server's configuration: what is written where there is none, and what is found where there is one. */

import { stringify } from "smol-toml";
import { parseConfig, requireRole } from "../../config/load.ts";
import { type Config, TABLES } from "../../config/schema.ts";
import { WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import type { WaltServer } from "./walt-server.ts";

const HEAD = `# Every key has a default; docs/configuration.md explains them, \`walt-vpn config show\` prints them.
`;
const BESIDE_WALT = `# A WalT server runs on this machine: it makes the bridge, and serves DHCP and boot files on it.
`;
const EXAMPLE = `
# How proxies reach this server, unless it is by this machine's host name:
# [server]
# address = "walt.lab.example:2222"
`;

/** A new configuration; beside a WalT server it leaves the network of nodes to that. */
export function newConfiguration(walt: WaltServer | undefined): string {
  const network = walt === undefined ? {} : { server: { network: { managed: false, bridge: walt.bridge } } };
  const values = stringify({ role: "server", ...network }).trimEnd();
  return `${HEAD}${walt === undefined ? "" : BESIDE_WALT}${values}\n${EXAMPLE}`;
}

/** The configuration that an installation uses. */
export interface FoundConfig {
  config: Config;
  /** Where it is now: at its place, where an earlier version had it, or nowhere yet. */
  at: "place" | "earlier" | "nowhere";
}

/**
 * Read the configuration, or the one of an earlier version.
 * @param earlierIsOurs whether other things of an earlier version are there: its file is ours then, whatever is in it
 * @throws WaltError when it is another role's, wrong, or there twice.
 */
export function findConfig(place: string, earlier: string, earlierIsOurs: boolean): FoundConfig {
  const [text, old] = [readTextIfAny(place), readTextIfAny(earlier)];
  const before = old === undefined ? undefined : earlierConfig(old, earlier, earlierIsOurs);
  if (text !== undefined) {
    if (before !== undefined) {
      throw new WaltError(`${earlier} and ${place} are both there`, {
        hint: "Earlier versions used the first one, this one uses the second. Move one of them away.",
      });
    }
    return { config: requireRole(parseConfig(text, place), "server"), at: "place" };
  }
  if (before === undefined) return { config: parseConfig("", undefined), at: "nowhere" };
  refuseEarlierPaths(before, earlier);
  return { config: before, at: "earlier" };
}

/** The configuration of an earlier version's server; undefined where the file is nothing of ours. */
function earlierConfig(text: string, file: string, isOurs: boolean): Config | undefined {
  let config: Config;
  try {
    config = parseConfig(text, file);
  } catch (error) {
    if (isOurs) throw error;
    return undefined;
  }
  if (config.role === undefined && !isOurs) return undefined;
  return requireRole(config, "server");
}

/** A path in the folders of earlier versions cannot be kept: the service may write to its own only. */
function refuseEarlierPaths(config: Config, file: string): void {
  const { state, socket } = config.server;
  const paths = { state, socket, "network.boot_files": config["server.network"].boot_files };
  for (const [key, path] of Object.entries(paths)) {
    if (!/^\/(var\/lib|run)\/walt(\/|$)/.test(path)) continue;
    throw new WaltError(`${file}: server.${key} is ${path}, a folder of WalT's own`, {
      hint: `Take that line out: the default is ${DEFAULTS[key] ?? ""} now, and what is there is moved.`,
    });
  }
}

const DEFAULTS: Readonly<Record<string, string>> = {
  state: TABLES.server.state.default,
  socket: TABLES.server.socket.default,
  "network.boot_files": TABLES["server.network"].boot_files.default,
};
