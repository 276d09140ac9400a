/** A WalT server on this machine: whether there is one, and which network is its. */

import { readTextIfAny } from "../../linux/files.ts";

/** The network of nodes is called that in every version of WalT, and so is its bridge. */
const WALT_NET = "walt-net";

export interface WaltServer {
  /** The bridge that its nodes are on. */
  bridge: string;
  /** Its own address there, such as `192.168.192.1/22`; undefined where its configuration does not say one. */
  address: string | undefined;
}

/**
 * The WalT server that a configuration, WalT's `server.conf`, belongs to; undefined where there is no such file. The file is
 * YAML or JSON with comments; only the address below `walt-net` is looked for in it, for a message.
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
