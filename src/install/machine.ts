/** The machine on which a role is installed: the paths of an installation, and how programs are run on it. */

import { lstatSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { join } from "node:path";
import { codeOf } from "../errors.ts";
import { runAny } from "../linux/run.ts";

/** What an installation needs of a machine. Tests use a folder instead of `/`. */
export interface Machine {
  /** The root of all paths: `/`, except in tests. */
  root: string;
  /** The compiled program that is to be installed. */
  binary: string;
  /** Whether it is of a package of the distribution, which has command, units and users: they are left alone. */
  packaged: boolean;
  /** Whether systemd is running (sd_booted(3)). In a container or a chroot its files may exist without it. */
  systemd: boolean;
  /** Run a program to its end; its exit status, 0 for done, and what it printed. */
  run(command: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }>;
}

/** The machine that this program runs on. */
export function thisMachine(binary: string): Machine {
  return {
    root: "/",
    binary,
    packaged: realpathSync(binary).startsWith("/usr/bin/"),
    systemd: statIfAny("/run/systemd/system")?.isDirectory() === true,
    run: runAny,
  };
}

/** Everything that an installation is made of, as absolute paths below the machine's root. */
export function placesOf(root: string) {
  const at = (path: string): string => join(root, path);
  return {
    command: at("/usr/local/bin/walt-vpn"),
    /** The short name of the command. On a WalT server it is WalT's client. */
    link: at("/usr/local/bin/walt"),
    config: at("/etc/walt/vpn.toml"),
    units: at("/etc/systemd/system"),
    unit: at("/etc/systemd/system/walt-vpn.service"),
    /** By which the service has a dnsmasq started. */
    dhcpSocket: at("/etc/systemd/system/walt-vpn-dhcp.socket"),
    dhcpUnit: at("/etc/systemd/system/walt-vpn-dhcp@.service"),
    dropIns: at("/etc/systemd/system/walt-vpn.service.d"),
    wanted: at("/etc/systemd/system/multi-user.target.wants/walt-vpn.service"),
    /** Of a device. */
    deviceUnit: at("/etc/systemd/system/walt-vpn-device.service"),
    state: at("/var/lib/walt-vpn"),
    run: at("/run/walt-vpn"),
    waltConf: at("/etc/walt/server.conf"),
  };
}

/** lstat(2) of a path; undefined if it or one of its folders does not exist. */
export function statIfAny(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (codeOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** What is at a path, for a message: `a link to /x`, `a folder`, … */
export function kindOf(path: string, stat: Stats): string {
  if (stat.isSymbolicLink()) return `a link to ${readlinkSync(path)}`;
  if (stat.isDirectory()) return "a folder";
  return stat.isFile() ? "a file" : "neither file nor folder";
}
