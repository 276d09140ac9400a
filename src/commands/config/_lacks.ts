/** What a configuration lacks for its role on this machine, although every key of it is right. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { groupId } from "../../api/listen.ts";
import type { Config } from "../../config/schema.ts";
import { checkConfigurationFiles, deviceFiles } from "../../device/files.ts";
import { entrypointsOf } from "../../device/route/entrypoints.ts";
import { explained } from "../../system-error.ts";
import { proxySettings } from "../proxy/_settings.ts";

/** Something that is missing. */
export interface Lack {
  readonly what: string;
  /** What to do about it. */
  readonly cure: string | undefined;
}

/** @param sys folder with what the kernel says of network cards (sysfs(5)): a parameter for tests. */
export function lacksOf(config: Config, sys = "/sys/class/net"): Lack[] {
  switch (config.role) {
    case "server":
      return serverLacks(config, sys);
    case "proxy":
      return said(() => proxySettings(config));
    case "device":
      return deviceLacks(config, sys);
    case undefined:
      return [
        {
          what: "it does not say a role",
          cure: 'Write role = "server", "proxy" or "device" at its top.',
        },
      ];
  }
}

function serverLacks({ server, sources, ...config }: Config, sys: string): Lack[] {
  const { bridge, managed, mtu } = config["server.network"];
  const lacks: Lack[] = [];
  // Without the default group root alone operates the server; another one was meant to be there.
  if (sources.get("server.group") !== "default" && groupId(server.group) === undefined)
    lacks.push({
      what: `the group ${server.group} does not exist`,
      cure: `groupadd --system ${server.group}`,
    });
  if (managed) return lacks;
  const card = join(sys, bridge);
  if (!existsSync(card)) {
    const cure = "Make it, or set server.network.managed = true: then the daemon makes it.";
    return [...lacks, { what: `the bridge ${bridge} does not exist`, cure }];
  }
  if (!existsSync(join(card, "bridge")))
    return [...lacks, { what: `${bridge} is a network interface, but no bridge`, cure: undefined }];
  const its = Number(readFileSync(join(card, "mtu"), "utf8"));
  if (its < mtu) {
    const cure = `ip link set ${bridge} mtu ${mtu}, or a lower server.network.mtu.`;
    lacks.push({ what: `the bridge ${bridge} has an MTU of ${its}, less than server.network.mtu`, cure });
  }
  return lacks;
}

function deviceLacks(config: Config, sys: string): Lack[] {
  const { interface: card, framing } = config.device;
  const isThere = card === "" || existsSync(join(sys, card));
  return [
    ...said(() => entrypointsOf(config)),
    ...said(() => checkConfigurationFiles(deviceFiles(config), framing === "messages")),
    ...(isThere
      ? []
      : [{ what: `the network card ${card} (device.interface) does not exist`, cure: undefined }]),
  ];
}

/** What a check says. */
function said(check: () => unknown): Lack[] {
  try {
    check();
    return [];
  } catch (error) {
    const known = explained(error);
    if (known === undefined) throw error;
    return [{ what: known.message, cure: known.hint }];
  }
}
