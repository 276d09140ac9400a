/** The paths of a device's files: those of its configuration, those that it keeps, and those of one run. */

import { mkdirSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Config } from "../config/schema.ts";
import { messageOf, WaltError } from "../errors.ts";
import { readTextIfAny } from "../linux/files.ts";

/** Paths of all files. */
export interface DeviceFiles {
  /** The pinned host keys of proxies and server. Beside vpn.toml; `walt vpn setup-node` writes both. */
  readonly knownHosts: string;
  /** The enrolment key, with which a device without credentials may ask for them. Beside vpn.toml. */
  readonly enrolmentKey: string;
  /** A token with which the server accepts the device without asking, if there is one. Beside vpn.toml. */
  readonly enrolmentToken: string;
  /** The state folder, whose files survive a reboot (`device.state`). */
  readonly state: string;
  /** The device key: a private key that the device makes itself. In the state folder. */
  readonly deviceKey: string;
  /** The certificate of the device key. In the state folder. */
  readonly certificate: string;
  /** Another one, of the CA that is to take the place of the present one, while there is such. In the state folder. */
  readonly nextCertificate: string;
  /** What the server has said of its keys (server-keys.ts). In the state folder. */
  readonly serverKeys: string;
  /** What an operator has set from the lab (settings.ts). In the state folder. */
  readonly settings: string;
  /** The credentials (credentials.ts). In the state folder. */
  readonly credentials: string;
  /** The run folder, whose files are gone after a reboot (`device.run`). */
  readonly run: string;
  /** The host keys that ssh is given: those beside vpn.toml, or what the server has said since. In the run folder. */
  readonly trustedHosts: string;
  /** The enrolment keys that ssh is given, with the permissions that it requires: one or two. In the run folder. */
  readonly trustedEnrolmentKeys: readonly [string, string];
  /** The socket of the device's API. In the run folder. */
  readonly socket: string;
  /** QEMU's control socket (QMP). In the run folder. */
  readonly qmpSocket: string;
  /** The socket of the node's console. In the run folder. */
  readonly consoleSocket: string;
}

/** The paths of all files. @throws WaltError when the configuration was not read from a file. */
export function deviceFiles(config: Config): DeviceFiles {
  if (config.file === undefined) {
    throw new WaltError("this device has no configuration: there is no vpn.toml", {
      hint:
        "Run `walt vpn setup-node` on the server, and copy the folder that it writes to this device. " +
        "Then name the vpn.toml in it with --config.",
    });
  }
  return { ...configFiles(dirname(resolve(config.file))), ...stateFiles(config), ...runFiles(config) };
}

/** Paths of the files beside vpn.toml. */
function configFiles(folder: string) {
  return {
    knownHosts: join(folder, "known_hosts"),
    enrolmentKey: join(folder, "enrolment_key"),
    enrolmentToken: join(folder, "enrolment_token"),
  };
}

/** Paths of the files that survive a reboot. The configuration need not be from a file. */
export function stateFiles(config: Config) {
  const { state } = config.device;
  return {
    state,
    deviceKey: join(state, "device_key"),
    certificate: join(state, "device-certificate.pub"),
    nextCertificate: join(state, "device-certificate-next.pub"),
    serverKeys: join(state, "server-keys.json"),
    settings: join(state, "settings.json"),
    credentials: join(state, "credentials.json"),
  };
}

/** Paths of the files that are gone after a reboot. The configuration need not be from a file. */
export function runFiles(config: Config) {
  const { run } = config.device;
  return {
    run,
    trustedHosts: join(run, "trusted_hosts"),
    trustedEnrolmentKeys: [join(run, "trusted_enrolment_key"), join(run, "trusted_enrolment_key_2")] as const,
    socket: join(run, "device.sock"),
    qmpSocket: join(run, "vm.sock"),
    consoleSocket: join(run, "console.sock"),
  };
}

/**
 * Make a folder unless it exists.
 * @param mode its permission bits.
 * @throws WaltError naming it and the reason.
 */
export function makeFolder(folder: string, mode: number): void {
  try {
    mkdirSync(folder, { recursive: true, mode });
    if (!statSync(folder).isDirectory()) throw new Error("it is a file");
  } catch (error) {
    throw new WaltError(`cannot make the folder ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Check that the files beside vpn.toml are there.
 * @param enrols whether the server has enrolment; otherwise there is no enrolment key.
 * @throws WaltError when a file is missing or empty.
 */
export function checkConfigurationFiles(files: DeviceFiles, enrols: boolean): void {
  for (const [file, what] of [
    [files.knownHosts, "it must have the host keys of entrypoint and server"] as const,
    ...(enrols ? [[files.enrolmentKey, "it must have the enrolment key"] as const] : []),
  ]) {
    if (readTextIfAny(file, 1 << 20)?.trim()) continue;
    throw new WaltError(`${file} is missing or empty: ${what}`, {
      hint: "`walt vpn setup-node` writes it beside vpn.toml: copy the whole folder to the device.",
    });
  }
}
