/**
 * Which server a command uses: --server, else WALT_SERVER, else `server` of the user's own configuration
 * (~/.config/walt/config.toml), else the one on this machine. Servers have names there:
 *
 *     server = "lab"
 *     [servers]
 *     lab = "ssh://alice@walt.lab.example"
 */

import { homedir } from "node:os";
import { join } from "node:path";
import { parse as parseToml, TomlError } from "smol-toml";
import { suggest } from "../config/load.ts";
import { codeOf, usageError, WaltError } from "../errors.ts";
import { readEditedIfAny } from "../linux/files.ts";
import { describe } from "../parse.ts";
import { quoted } from "../text.ts";

/** The server on this machine. */
export const LOCAL = "local";
/** Characters of the file. */
const MAX_FILE = 65_536;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ADDRESS = /^ssh:\/\/(?:([A-Za-z0-9_][\w.-]*)@)?([A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:]+\])(?::(\d{1,5}))?$/;

/** A server on another machine. */
export interface RemoteServer {
  /** `ssh://alice@walt.lab.example` */
  readonly address: string;
  readonly user: string | undefined;
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: string | undefined;
}

/** What ~/.config/walt/config.toml says. */
export interface OwnConfig {
  readonly path: string;
  /** The server that is used unless told otherwise. */
  readonly server: string | undefined;
  /** Addresses of servers by their names. */
  readonly servers: ReadonlyMap<string, string>;
}

/**
 * The server that a command uses; undefined for the one on this machine.
 * @throws WaltError when what was said is no server; it names where that was said.
 */
export function chooseServer(
  option: string | undefined,
  env: Record<string, string | undefined> = process.env,
): RemoteServer | undefined {
  const path = join(env["XDG_CONFIG_HOME"] || join(env["HOME"] || homedir(), ".config"), "walt/config.toml");
  if (option !== undefined) return resolve(option, "--server", () => readOwnConfig(path));
  const variable = env["WALT_SERVER"];
  if (variable !== undefined && variable !== "")
    return resolve(variable, "WALT_SERVER", () => readOwnConfig(path));
  const own = readOwnConfig(path);
  return own.server === undefined ? undefined : resolve(own.server, `${path}: server`, () => own);
}

/** @throws WaltError naming what is wrong with the file. */
export function readOwnConfig(path: string): OwnConfig {
  const text = readOwn(path);
  const wrong = (what: string): WaltError =>
    new WaltError(`${path}: ${what}`, {
      hint: 'It has server = "NAME", and [servers] with NAME = "ssh://…".',
    });
  let toml: Record<string, unknown>;
  try {
    toml = parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw wrong(`line ${error.line}, column ${error.column}: not TOML`);
  }
  const { server, servers = {}, ...others } = toml;
  const [other] = Object.keys(others);
  if (other !== undefined)
    throw wrong(`${quoted(other)} is no key; ${suggest(other, ["server", "servers"])}`);
  if (server !== undefined && typeof server !== "string")
    throw wrong(`server must be a string, found ${describe(server)}`);
  if (typeof servers !== "object" || servers === null || Array.isArray(servers))
    throw wrong(`servers must be a table, found ${describe(servers)}`);
  const found = new Map<string, string>();
  for (const [name, address] of Object.entries(servers)) {
    if (!NAME.test(name) || name === LOCAL) throw wrong(`${quoted(name)} cannot be the name of a server`);
    if (typeof address !== "string" || !ADDRESS.test(address))
      throw wrong(`servers.${name} must be of the form ssh://[user@]host[:port], found ${describe(address)}`);
    found.set(name, address);
  }
  return { path, server, servers: found };
}

/** The text of the file; of another user's home, which sudo may have left us, there is none. */
function readOwn(path: string): string {
  try {
    return readEditedIfAny(path, MAX_FILE) ?? "";
  } catch (error) {
    if (error instanceof WaltError && codeOf(error.cause) === "EACCES") return "";
    throw error;
  }
}

/** @param where it was said. */
function resolve(said: string, where: string, own: () => OwnConfig): RemoteServer | undefined {
  if (said === LOCAL) return undefined;
  const address = said.includes("://") ? said : named(said, where, own());
  const [, user, host = "", port] = ADDRESS.exec(address) ?? [];
  if (host === "") throw usageError(`${where} ${quoted(said)} is not of the form ssh://[user@]host[:port]`);
  return { address, user, host: host.replace(/^\[|\]$/g, ""), port };
}

function named(name: string, where: string, { path, servers }: OwnConfig): string {
  const address = servers.get(name);
  if (address !== undefined) return address;
  const names = [...servers.keys(), LOCAL];
  throw usageError(
    `${where} ${quoted(name)} is neither of the form ssh://[user@]host[:port] nor a server of ${path}; ${suggest(name, names)}`,
  );
}
