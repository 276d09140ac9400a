/** Finds a WalT server on this machine, and its network. */

import { readTextIfAny } from "../../linux/files.ts";

/** The name of the nodes' network, and of its bridge, in every version of WalT. */
const WALT_NET = "walt-net";

export interface WaltServer {
  /** The bridge that its nodes are on. */
  bridge: string;
  /** Its own address there, such as `192.168.192.1/22`; undefined if its configuration has none. */
  address: string | undefined;
}

/**
 * The WalT server of a configuration file, WalT's `server.conf`; undefined if there is no such file. The file
 * is YAML or JSON with comments; only the address below `walt-net` is looked for in it, for a message.
 */
export function findWaltServer(conf: string): WaltServer | undefined {
  const text = readTextIfAny(conf);
  if (text === undefined) return undefined;
  const lines = text.split("\n").map((line) => line.replace(/#.*/, ""));
  const from = lines.findIndex((line) => /^\s*["']?walt-net["']?\s*:/.test(line));
  const section = from < 0 ? [] : lines.slice(from, from + 20);
  const address = section
    .map((line) => /(?:^|[\s{,"'])ip["']?\s*:\s*["']?(\d{1,3}(?:\.\d{1,3}){3}\/\d{1,2})/.exec(line)?.[1])
    .find((found) => found !== undefined);
  return { bridge: WALT_NET, address };
}
