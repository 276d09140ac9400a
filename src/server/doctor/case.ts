/** What the checks of a server are given: the machine, its settings, and what several checks need once. */

import { dirname, join } from "node:path";
import type { Config } from "../../config/schema.ts";
import { denied, once } from "../../doctor/check.ts";
import type { Machine } from "../../doctor/machine.ts";
import { findProcess, runs } from "../../doctor/processes.ts";
import type { Installed } from "./installed.ts";

/** What the registry's file tells. Times are ms since 1970. */
export interface RegistryFacts {
  /** The version of its schema. */
  readonly version: number;
  /** What SQLite's own check says: `ok`, or what is damaged. */
  readonly check: string;
  /** When the newest certificate was issued; undefined if none was. */
  readonly newestIssue: number | undefined;
  /** Number of the last certificate; 0 if none was issued. */
  readonly lastSerial: number;
  /** The devices that are not revoked. */
  readonly devices: readonly { readonly node: string; readonly expires: number | undefined }[];
}

/** What is outside of the machine interface. */
export interface Looks {
  /** The version of the daemon that answers on the socket; undefined if none does. */
  daemonVersion(): Promise<string | undefined>;
  /** @throws WaltError when a private key cannot be used. */
  checkKey(path: string): void;
  /** The registry, which is not changed. @throws WaltError when it cannot be read. */
  registry(path: string): RegistryFacts;
  /** What is left of the installation. */
  installed(): Installed;
}

export interface ServerCase {
  readonly machine: Machine;
  readonly config: Config;
  readonly keys: string;
  readonly registryFile: string;
  /** Of the dnsmasq of a managed walt-net. */
  readonly dnsmasqConfig: string;
  checkKey: Looks["checkKey"];
  installed: Looks["installed"];
  /** undefined if there is no file yet. Read once, as the others below. */
  registry(): Promise<RegistryFacts | undefined>;
  daemonVersion: Looks["daemonVersion"];
  /** The process of the daemon; undefined if none is found. */
  daemon(): Promise<number | undefined>;
}

export function serverCase(machine: Machine, config: Config, looks: Looks): ServerCase {
  const { state, socket } = config.server;
  const registryFile = join(state, "registry.sqlite");
  return {
    machine,
    config,
    keys: join(state, "keys"),
    registryFile,
    dnsmasqConfig: join(dirname(socket), "walt-net", "dnsmasq.conf"),
    checkKey: looks.checkKey,
    installed: once(looks.installed),
    registry: once(async () => {
      if ((await machine.stat(registryFile)) === undefined) return undefined;
      const code = await machine.access(registryFile);
      if (code === "EACCES") throw denied(registryFile);
      return looks.registry(registryFile);
    }),
    daemonVersion: once(looks.daemonVersion),
    daemon: once(async () => await findProcess(machine, (words) => runs("server", words))),
  };
}
