/**
 * The commands that a device runs at the server's endpoint, as `ssh host COMMAND` would: their words, written
 * and read here.
 */

import { createHash } from "node:crypto";
import { type Entrypoint, formatEntrypoint, parseEntrypoint, withoutUsers } from "../address.ts";
import { WaltError } from "../errors.ts";

/**
 * Longest text of a command, in characters: that of a tunnel with as many proxies as there may be is shorter.
 */
export const MAX_COMMAND = 4096;

export type ServerCommand =
  /** Ask for access. */
  | { readonly name: "enrol" }
  /** Fetch a new certificate. */
  | { readonly name: "renew" }
  /** Carry the node's frames. `via` is the entrypoint that the device came through. */
  | { readonly name: "tunnel"; readonly via: Entrypoint }
  /** Carry them as well, as a further lane of a tunnel. `tunnel` is its name, as `tunnelName` makes it. */
  | { readonly name: "lane"; readonly tunnel: string };

/** Hexadecimal digits of a tunnel's name: 128 bits. */
const NAME_LENGTH = 32;
const NAME = /^[0-9a-f]{32}$/;

/**
 * The name of a tunnel, which both ends know without telling each other: a hash of the identifier of its first
 * connection's SSH session (RFC 4253, section 7.2).
 */
export function tunnelName(session: Uint8Array): string {
  return createHash("sha256").update(session).digest("hex").slice(0, NAME_LENGTH);
}

/** `enrol`, `renew`, `tunnel via=<entrypoint>` or `lane tunnel=<name>`. */
export function encodeCommand(command: ServerCommand): string {
  if (command.name === "tunnel") return `tunnel via=${formatEntrypoint(withoutUsers(command.via))}`;
  return command.name === "lane" ? `lane tunnel=${command.tunnel}` : command.name;
}

/**
 * @returns undefined when it is none of the four.
 * @throws WaltError when it is `tunnel` without an entrypoint, or `lane` without the name of a tunnel.
 */
export function parseCommand(text: string): ServerCommand | undefined {
  if (text.length > MAX_COMMAND) return undefined;
  const [name, argument = "", ...more] = text.split(" ");
  if (name === "tunnel" && more.length === 0) {
    const [key, via] = [argument.slice(0, 4), argument.slice(4)];
    if (key !== "via=" || via === "") throw new WaltError("the command is `tunnel via=<entrypoint>`");
    return { name, via: parseEntrypoint(via) };
  }
  if (name === "lane" && more.length === 0) {
    const [key, tunnel] = [argument.slice(0, 7), argument.slice(7)];
    if (key !== "tunnel=" || !NAME.test(tunnel)) throw new WaltError("the command is `lane tunnel=<name>`");
    return { name, tunnel };
  }
  return (name === "enrol" || name === "renew") && text === name ? { name } : undefined;
}
