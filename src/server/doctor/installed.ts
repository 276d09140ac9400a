/**
 * What is left on a machine of what `walt server install` and others of our commands have put there: a WalT server's
 * set-up that runs later takes names for itself.
 */

import { join } from "node:path";
import { placesOf, statIfAny } from "../../install/machine.ts";
import { type Finding, lookAtCommand, lookAtDhcpUnit, lookAtLink, lookAtUnit } from "../../install/ours.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { lostPlugin } from "../install/plugin.ts";
import { lookAtUser, SERVICE_USERS } from "../install/service.ts";
import { findWaltServer } from "../install/walt-server.ts";

/** The users as whom devices log in at a proxy, made by proxy-setup.sh, and the end of its lines in their authorized_keys. */
const PROXY_USERS = ["walt-vpn", "walt-vpn-devices"];
const PROXY_LINE = / walt-vpn=SHA256:\S+$/m;

export interface Installed {
  /** What is there under a name of ours. */
  readonly parts: readonly { readonly path: string; readonly finding: Finding }[];
  /** Our users that are not there, or are another's. None if there is no unit of ours outside of a package. */
  readonly users: readonly string[];
  /** The short name of the command. */
  readonly link: { readonly path: string; readonly finding: Finding };
  /** Whether there is a WalT server, and its configuration. */
  readonly walt: string | undefined;
  /** The plug-in in an environment that WalT's client no longer uses. */
  readonly lostPlugin: string | undefined;
  /** Keys of devices that this machine lets in as a proxy, which sshd does not read, and why. */
  readonly lostKeys: { readonly path: string; readonly why: string } | undefined;
}

/**
 * @param root the root of the machine: `/`, except in tests.
 * @param own the running program.
 */
export function lookAtInstalled(root: string, own?: string): Installed {
  const places = placesOf(root);
  const unit = lookAtUnit(places.unit);
  // A link that leads to nothing starts a unit that was taken.
  const isEnabled = statIfAny(places.wanted)?.isSymbolicLink() === true;
  const isInstalled = unit.is === "ours" || (isEnabled && statIfAny(places.command) !== undefined);
  const parts = [
    { path: places.command, finding: lookAtCommand(places.command, own) },
    { path: places.unit, finding: unit },
    { path: places.dhcpSocket, finding: lookAtDhcpUnit(places.dhcpSocket) },
    { path: places.dhcpUnit, finding: lookAtDhcpUnit(places.dhcpUnit) },
  ];
  return {
    parts: isInstalled ? parts : parts.filter(({ finding }) => finding.is !== "absent"),
    users: isInstalled
      ? SERVICE_USERS.filter((user) => lookAtUser(root, user) !== "ours").map(({ name }) => name)
      : [],
    link: { path: places.link, finding: lookAtLink(places.link, "walt-vpn") },
    walt: findWaltServer(places.waltConf) === undefined ? undefined : places.waltConf,
    lostPlugin: lostPlugin(root),
    lostKeys: lookAtKeys(root),
  };
}

/** Of the users of proxy-setup.sh the last one counts: it is made where another program has the first one. */
function lookAtKeys(root: string): Installed["lostKeys"] {
  const passwd = (readTextIfAny(join(root, "/etc/passwd")) ?? "").split("\n").map((line) => line.split(":"));
  for (const user of PROXY_USERS.toReversed()) {
    const home = `/home/${user}`;
    const path = join(root, home, ".ssh/authorized_keys");
    if (!PROXY_LINE.test(readTextIfAny(path) ?? "")) continue;
    const found = passwd.find(([name]) => name === user)?.[5];
    if (found === home) return undefined;
    const why = found === undefined ? `there is no user ${user}` : `the home of ${user} is ${found}`;
    return { path, why };
  }
  return undefined;
}
