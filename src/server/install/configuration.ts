/** The server's configuration: the text of a new one, and the search for an existing one. */

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

/**
 * The text of a new configuration. Beside a WalT server it does not manage walt-net.
 * @param address of the server on a walt-net that it manages; undefined for the default.
 */
export function newConfiguration(walt: WaltServer | undefined, address: string | undefined): string {
  const own = address === undefined ? {} : { server: { network: { address } } };
  const network = walt === undefined ? own : { server: { network: { managed: false, bridge: walt.bridge } } };
  const values = stringify({ role: "server", ...network }).trimEnd();
  return `${HEAD}${walt === undefined ? "" : BESIDE_WALT}${values}\n${EXAMPLE}`;
}

/** The configuration that an installation uses. */
export interface FoundConfig {
  config: Config;
  /** Where it is: at its place, at the place of an earlier version, or nowhere. */
  at: "place" | "earlier" | "nowhere";
}

/**
 * Find the configuration, or that of an earlier version.
 * @param earlierIsOurs whether an earlier version is installed: its file is then ours, whatever it contains
 * @throws WaltError when it is for another role, has an error, or exists at both places.
 */
export function findConfig(place: string, earlier: string, earlierIsOurs: boolean): FoundConfig {
  const [text, old] = [readTextIfAny(place), readTextIfAny(earlier)];
  const before = old === undefined ? undefined : earlierConfig(old, earlier, earlierIsOurs);
  if (text !== undefined) {
    if (before !== undefined) {
      throw new WaltError(`${earlier} and ${place} both exist`, {
        hint: "Earlier versions used the first file, and this version uses the second. Move one of them away.",
      });
    }
    return { config: requireRole(parseConfig(text, place), "server"), at: "place" };
  }
  if (before === undefined) return { config: parseConfig("", undefined), at: "nowhere" };
  refuseEarlierPaths(before, earlier);
  return { config: before, at: "earlier" };
}

/** The configuration of an earlier version's server; undefined if the file is not ours. */
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

/** Refuse paths in the folders of earlier versions: the service may write to its own folders only. */
function refuseEarlierPaths(config: Config, file: string): void {
  const { state, socket } = config.server;
  const paths = { state, socket, "network.boot_files": config["server.network"].boot_files };
  for (const [key, path] of Object.entries(paths)) {
    if (!/^\/(var\/lib|run)\/walt(\/|$)/.test(path)) continue;
    throw new WaltError(`${file}: server.${key} is ${path}, a folder of WalT's own`, {
      hint: `Remove that line: the default is now ${DEFAULTS[key] ?? ""}, and the files are moved there.`,
    });
  }
}

const DEFAULTS: Readonly<Record<string, string>> = {
  state: TABLES.server.state.default,
  socket: TABLES.server.socket.default,
  "network.boot_files": TABLES["server.network"].boot_files.default,
};
