/**
 * `walt server install`: command, unit, configuration, folders and group, beside whatever else is on the
 * machine.
 *
 * First everything is checked. If something is in the way, nothing is changed. Then the steps are done one by
 * one. Each step is done completely or not at all, and is left out if it was done before. So the same command
 * continues after an interruption.
 */

import { existsSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { refuseSecond } from "../../api/listen.ts";
import type { Config } from "../../config/schema.ts";
import { TABLES } from "../../config/schema.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { type Machine, placesOf, statIfAny } from "../../install/machine.ts";
import { type Finding, lookAtCommand, lookAtDhcpUnit, lookAtUnit } from "../../install/ours.ts";
import {
  addCommand,
  addFile,
  addLink,
  must,
  PACKAGED,
  type Plan,
  type Step,
  write,
} from "../../install/steps.ts";
import { makeFolders, readTextIfAny, syncFolder } from "../../linux/files.ts";
import { type Collision, collisionCure, collisionOf, collisionText, freeNetwork } from "../net/collision.ts";
import { type FoundConfig, findConfig, newConfiguration } from "./configuration.ts";
import { copyEarlierState, lookAtEarlierState, removeOriginals } from "./earlier.ts";
import { earlierPlacesOf } from "./earlier-places.ts";
import { lookAtUser, SERVICE_USERS, unitFiles, useradd } from "./service.ts";
import { lookAtRun, lookAtState } from "./state.ts";
import { findWaltServer } from "./walt-server.ts";

/**
 * Where the unit finds program and configuration: systemd confines the service, which cannot see /home, /root
 * and /tmp.
 */
const { command: COMMAND, config: CONFIG, unit: UNIT } = placesOf("/");
const UNIT_NAME = "walt-vpn.service";
const EARLIER_UNIT_NAME = "walt-server.service";
/** systemd.exec(5): the folder stays when the service stops. */
const PRESERVE = "RuntimeDirectoryPreserve=yes";

/**
 * Check everything, and plan the changes. Nothing is changed yet.
 * @throws WaltError naming everything that is in the way; (usage) when the configuration is for another role.
 */
export async function planInstall(machine: Machine): Promise<Plan> {
  const { root } = machine;
  const [places, earlier] = [placesOf(root), earlierPlacesOf(root)];
  const inTheWay: string[] = [];
  const found: string[] = [];
  const notes: string[] = [];
  const steps: Step[] = [];
  const free = (path: string, finding: Finding): Finding["is"] => {
    if (finding.is === "foreign") inTheWay.push(`${path} is not ours: it is ${finding.what}`);
    return finding.is;
  };

  const walt = findWaltServer(places.waltConf);
  const unit = free(places.unit, lookAtUnit(places.unit));
  if (machine.packaged && unit === "ours")
    inTheWay.push(
      `${places.unit} is of an installation without the package, and would win: systemctl stop walt-vpn, and remove it with ${places.dhcpSocket}, ${places.dhcpUnit}, ${places.command} and ${places.link}`,
    );
  const command = free(places.command, lookAtCommand(places.command, machine.binary));
  const state = free(places.state, lookAtState(places.state));
  for (const path of [places.dhcpSocket, places.dhcpUnit]) free(path, lookAtDhcpUnit(path));
  if (unit !== "ours" && !machine.packaged) free(places.run, lookAtRun(places.run));
  const earlierUnit = lookAtUnit(earlier.unit).is === "ours";
  const { config, at } = findConfig(places.config, earlier.config, earlierUnit);
  const keepsState = config.server.state === TABLES.server.state.default;
  const earlierState =
    keepsState && state !== "foreign" ? lookAtEarlierState(earlier.state, places.state) : undefined;
  const moves = earlierState?.copied === false;
  if (moves && existsSync(places.state) && readdirSync(places.state).length > 0)
    inTheWay.push(`${places.state} is not empty, and the keys of an earlier version are in ${earlier.state}`);
  const active =
    earlierUnit &&
    machine.systemd &&
    (await machine.run(["systemctl", "is-active", "--quiet", EARLIER_UNIT_NAME])).status === 0;
  // A server that systemd did not start must be stopped by hand.
  if (moves && !active) {
    await refuseSecond(earlier.socket).catch((error: unknown) => inTheWay.push(messageOf(error)));
  }
  const isInstalled =
    machine.packaged || unit === "ours" || state === "ours" || earlierUnit || earlierState !== undefined;
  const { group } = config.server;
  const groupIsThere = hasGroup(root, group);
  if (groupIsThere && !isInstalled && config.sources.get("server.group") === "default") {
    inTheWay.push(
      `the group ${group} is there already: its members could operate this server. If they may, say so in ${CONFIG}: [server] group = "${group}"; else name another`,
    );
  }
  const users = SERVICE_USERS.map((user) => ({ user, is: lookAtUser(root, user) }));
  for (const { user, is } of users)
    if (is === "foreign") inTheWay.push(`the user ${user.name} is there already, and is not ours`);
  if (inTheWay.length > 0) {
    throw new WaltError(`cannot install:\n${inTheWay.map((one) => `- ${one}`).join("\n")}`, {
      hint: "Nothing was changed. Move these things away, or install on another machine.",
    });
  }

  if (walt !== undefined) {
    const where = walt.address === undefined ? "" : ` (${walt.address})`;
    notes.push(
      `A WalT server is on this machine (${places.waltConf}). Its network is the bridge ${walt.bridge}${where}; it is left as it is.`,
    );
  }

  if (machine.packaged) found.push(PACKAGED);
  else {
    // The unit is written first: everything else is recognised as ours by it. It is not enabled yet.
    for (const file of unitFiles(places, { command: COMMAND, config: CONFIG, group }))
      addFile(file, steps, found);
    addCommand(machine, command, steps, found);
    addLink(machine, steps, found, notes);
  }
  if (groupIsThere) found.push(`group ${group}: is there`);
  else {
    steps.push({
      what: `group ${group}: made; its members may use the commands (usermod -aG ${group} USER)`,
      do: () => must(machine, ["groupadd", "--system", group]),
    });
  }

  for (const { user, is } of users) {
    if (is === "ours") found.push(`user ${user.name}: is there`);
    else {
      const what = `user ${user.name}: made; ${user.runs} runs as it`;
      steps.push({ what, do: () => must(machine, useradd(user, group)) });
    }
  }

  const enabled = earlierUnit && statIfAny(earlier.wanted) !== undefined;
  if (active) steps.push(stopEarlier(machine));
  addConfig({ at, config }, walt, machine, await chooseNetwork(machine, config), steps, found, notes);
  if (moves) {
    steps.push({
      what: `${places.state}: keys and registry of ${earlier.state} copied`,
      do: () => copyEarlierState(earlier.state, places.state, earlierState),
    });
  }
  if (earlierState !== undefined) {
    steps.push({
      what: `${earlier.state}: what was copied removed`,
      do: () => removeOriginals(earlier.state, places.state, walt === undefined),
    });
  }
  const boot = join(places.state, "boot");
  if (keepsState && !existsSync(boot)) {
    steps.push({ what: `${boot}: made`, do: () => makeFolders(boot, 0o755) });
  }
  const starts = machine.systemd && (active || enabled);
  if (earlierUnit) addUnitsMove(machine, { enabled, starts }, steps);
  if (earlierUnit && walt !== undefined) {
    notes.push(
      `An earlier version had the name ${EARLIER_UNIT_NAME}, which is WalT's. If WalT's unit or command was lost by that, run WalT's own set-up (walt-server-setup) again.`,
    );
  }
  return { found, steps, notes, starts };
}

/** The configuration: unchanged, moved from the place of an earlier version, or written. */
function addConfig(
  { at, config }: FoundConfig,
  walt: ReturnType<typeof findWaltServer>,
  { root }: Machine,
  network: Network,
  steps: Step[],
  found: string[],
  notes: string[],
): void {
  const [place, before] = [placesOf(root).config, earlierPlacesOf(root).config];
  if (at === "place") found.push(`${place}: left as it is`);
  if (at === "earlier") {
    steps.push({
      what: `${place}: moved from ${before}`,
      do: () => {
        renameSync(before, place);
        syncFolder(dirname(place));
      },
    });
  }
  if (at === "nowhere") {
    const { collides, free } = network;
    const address = collides === undefined ? undefined : free;
    const text = newConfiguration(walt, address);
    const with_ =
      walt !== undefined
        ? `, with managed = false and bridge = "${walt.bridge}"`
        : address === undefined
          ? ""
          : `, with walt-net on ${address}, as the network of ${collides?.card} (${collides?.network}) has addresses of the default one`;
    const what = `${place}: written${with_}`;
    steps.push({ what, do: () => write(place, text) });
  } else if (walt === undefined && isManaged(config) && network.collides !== undefined) {
    const { bridge, address } = config["server.network"];
    notes.push(`${collisionText(address, bridge, network.collides)}. ${collisionCure(network.free)}`);
  } else if (walt !== undefined && isManaged(config)) {
    notes.push(
      `${at === "place" ? place : before} says server.network.managed = true, but WalT serves ${walt.bridge}: set it to false.`,
    );
  }
}

/** Whether another network of the machine has addresses of walt-net, and a network that none has. */
interface Network {
  readonly collides: Collision | undefined;
  readonly free: string | undefined;
}

/** Look for walt-net's network on the machine. Without ip(8) nothing can be seen: the daemon looks again. */
async function chooseNetwork(machine: Machine, config: Config): Promise<Network> {
  const { bridge, address } = config["server.network"];
  try {
    const [cards = [], routes = []] = await Promise.all(
      ["address", "route"].map(async (what) => {
        const { stdout } = await machine.run(["ip", "-j", "-4", what]);
        const shown: unknown = JSON.parse(stdout.trim() === "" ? "[]" : stdout);
        return Array.isArray(shown) ? (shown as unknown[]) : [];
      }),
    );
    return {
      collides: collisionOf(address, bridge, cards, routes),
      free: freeNetwork(bridge, cards, routes),
    };
  } catch {
    return { collides: undefined, free: undefined };
  }
}

function isManaged(config: Config): boolean {
  return config["server.network"].managed;
}

/** Stop the service of an earlier version, but keep its folder in /run, which WalT also uses. */
function stopEarlier(machine: Machine): Step {
  const { unit } = earlierPlacesOf(machine.root);
  return {
    what: `${EARLIER_UNIT_NAME}: stopped`,
    do: async () => {
      const text = readTextIfAny(unit) ?? "";
      if (!text.includes(PRESERVE)) write(unit, text.replace("\nRuntimeDirectory=", `\n${PRESERVE}$&`));
      await must(machine, ["systemctl", "daemon-reload"]);
      await must(machine, ["systemctl", "stop", EARLIER_UNIT_NAME]);
    },
  };
}

/** Replace the unit of an earlier version: its drop-ins, its start at boot, and the running service. */
function addUnitsMove(machine: Machine, o: { enabled: boolean; starts: boolean }, steps: Step[]): void {
  const [places, earlier] = [placesOf(machine.root), earlierPlacesOf(machine.root)];
  if (existsSync(earlier.dropIns) && !existsSync(places.dropIns)) {
    steps.push({
      what: `${places.dropIns}: moved from ${earlier.dropIns}`,
      do: () => {
        renameSync(earlier.dropIns, places.dropIns);
        syncFolder(places.units);
      },
    });
  }
  if (o.enabled && statIfAny(places.wanted) === undefined) {
    steps.push({
      what: `${UNIT_NAME}: started at boot`,
      do: () => {
        makeFolders(dirname(places.wanted), 0o755);
        symlinkSync(UNIT, places.wanted); // what systemctl(1) enable does
        syncFolder(dirname(places.wanted));
      },
    });
  }
  if (o.starts) {
    steps.push({
      what: `${UNIT_NAME}: started`,
      do: async () => {
        await must(machine, ["systemctl", "daemon-reload"]);
        await must(machine, ["systemctl", "start", UNIT_NAME]);
      },
    });
  }
  steps.push({
    what: `${earlier.unit}: removed`,
    do: async () => {
      rmSync(earlier.wanted, { force: true });
      rmSync(earlier.unit);
      syncFolder(places.units);
      if (machine.systemd) await must(machine, ["systemctl", "daemon-reload"]);
    },
  });
}

function hasGroup(root: string, name: string): boolean {
  const groups = (readTextIfAny(join(root, "/etc/group")) ?? "").split("\n");
  return groups.some((line) => line.startsWith(`${name}:`));
}
