/** The files of a device: what it is given (beside its vpn.toml), what it keeps, and what is gone after a reboot. */

import { mkdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Config } from "../config/schema.ts";
import { messageOf, WaltError } from "../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../linux/files.ts";

export interface DeviceFiles {
  /** Beside vpn.toml, made by `walt vpn setup-node`: the pinned host keys. */
  readonly knownHosts: string;
  /** Beside vpn.toml: the key with which a device without credentials may ask for them. */
  readonly enrolmentKey: string;
  /** In the state folder. */
  readonly state: string;
  readonly deviceKey: string;
  readonly certificate: string;
  readonly credentials: string;
  /** In the run folder. */
  readonly run: string;
  /** The enrolment key as ssh accepts it. */
  readonly enrolmentKeyCopy: string;
  readonly socket: string;
  readonly qmpSocket: string;
  readonly consoleSocket: string;
}

/** Where the files of a configuration are. @throws WaltError without a configuration file. */
export function deviceFiles(config: Config): DeviceFiles {
  if (config.file === undefined) {
    throw new WaltError("this device has no configuration: there is no vpn.toml", {
      hint: "`walt vpn setup-node` on the server's machine makes the folder that a device starts from; name its vpn.toml with --config.",
    });
  }
  return { ...configFiles(dirname(resolve(config.file))), ...stateFiles(config), ...runFiles(config) };
}

function configFiles(folder: string) {
  return { knownHosts: join(folder, "known_hosts"), enrolmentKey: join(folder, "enrolment_key") };
}

/** What a device keeps; needs no configuration file. */
export function stateFiles(config: Config) {
  const { state } = config.device;
  return {
    state,
    deviceKey: join(state, "device_key"),
    certificate: join(state, "device-certificate.pub"),
    credentials: join(state, "credentials.json"),
  };
}

/** What is gone after a reboot; needs no configuration file. */
export function runFiles(config: Config) {
  const { run } = config.device;
  return {
    run,
    enrolmentKeyCopy: join(run, "enrolment_key"),
    socket: join(run, "device.sock"),
    qmpSocket: join(run, "vm.sock"),
    consoleSocket: join(run, "console.sock"),
  };
}

/** Make a folder where there is none. @throws WaltError naming it. */
export function makeFolder(folder: string, mode: number): void {
  try {
    mkdirSync(folder, { recursive: true, mode });
    if (!statSync(folder).isDirectory()) throw new Error("it is a file");
  } catch (error) {
    throw new WaltError(`cannot make the folder ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Check what the device was given, and copy the enrolment key to where it can have the mode that ssh insists on: an SD
 * card's boot partition is FAT, on which every file is readable by all.
 * @param enrols the server knows enrolment; else there is no such key.
 * @throws WaltError when something is missing.
 */
export function prepareGiven(files: DeviceFiles, enrols: boolean): void {
  for (const [file, what] of [
    [files.knownHosts, "the host keys of entrypoint and server"] as const,
    ...(enrols ? [[files.enrolmentKey, "the key to ask for access with"] as const] : []),
  ]) {
    if (readTextIfAny(file, 1 << 20)?.trim()) continue;
    throw new WaltError(`${file} is missing or empty: ${what}`, {
      hint: "`walt vpn setup-node` writes it beside vpn.toml; copy that whole folder to the device.",
    });
  }
  if (enrols)
    writeFileAtomic(files.enrolmentKeyCopy, readTextIfAny(files.enrolmentKey) ?? "", { mode: 0o600 });
}
