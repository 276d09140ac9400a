/** Where earlier versions had what is installed. */

import { join } from "node:path";

/** The paths of earlier versions, which belong to WalT on a WalT server. */
export function earlierPlacesOf(root: string) {
  const at = (path: string): string => join(root, path);
  return {
    config: at("/etc/walt/walt.toml"),
    unit: at("/etc/systemd/system/walt-server.service"),
    dropIns: at("/etc/systemd/system/walt-server.service.d"),
    wanted: at("/etc/systemd/system/multi-user.target.wants/walt-server.service"),
    state: at("/var/lib/walt"),
    run: at("/run/walt"),
    socket: at("/run/walt/server.sock"),
  };
}
