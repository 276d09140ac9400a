/**
 * The commands that a device runs at the server's endpoint, as `ssh host COMMAND` would: their words, written
 * and read here.
 */

import { type Entrypoint, formatEntrypoint, parseEntrypoint } from "../address.ts";
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
  | { readonly name: "tunnel"; readonly via: Entrypoint };

/** `enrol`, `renew` or `tunnel via=<entrypoint>`. */
export function encodeCommand(command: ServerCommand): string {
  return command.name === "tunnel" ? `tunnel via=${formatEntrypoint(command.via)}` : command.name;
}

/**
 * @returns undefined when it is none of the three.
 * @throws WaltError when it is `tunnel` without an entrypoint.
 */
export function parseCommand(text: string): ServerCommand | undefined {
  if (text.length > MAX_COMMAND) return undefined;
  const [name, argument = "", ...more] = text.split(" ");
  if (name === "tunnel" && more.length === 0) {
    const [key, via] = [argument.slice(0, 4), argument.slice(4)];
    if (key !== "via=" || via === "") throw new WaltError("the command is `tunnel via=<entrypoint>`");
    return { name, via: parseEntrypoint(via) };
  }
  return (name === "enrol" || name === "renew") && text === name ? { name } : undefined;
}
