/** What systemd is told of the server: its units, and the users as whom they run. */

import { join } from "node:path";
import type { placesOf } from "../../install/machine.ts";
import type { TextFile } from "../../install/steps.ts";
import { filled, quoted } from "../../install/unit.ts";
import { readTextIfAny } from "../../linux/files.ts";
import dhcpScript from "../net/dnsmasq.sh" with { type: "text" };

import serverTemplate from "./walt-vpn.service" with { type: "text" };
import dhcpTemplate from "./walt-vpn-dhcp@.service" with { type: "text" };
import socketTemplate from "./walt-vpn-dhcp.socket" with { type: "text" };

/** A user of the system that belongs to one service. */
export interface ServiceUser {
  name: string;
  /** What runs as it, for the operator. */
  runs: string;
  /** By this field of passwd(5) and the next one our user is told from another one with its name. */
  comment: string;
  home: string;
}

/** Not `walt-vpn`: as that one devices log in, where this machine is a proxy, too. */
const SERVER: ServiceUser = {
  name: "walt-vpn-server",
  runs: "the service",
  comment: "WalT VPN server",
  home: "/var/lib/walt-vpn",
};
const DHCP: ServiceUser = {
  name: "walt-vpn-dhcp",
  runs: "its dnsmasq",
  comment: "WalT VPN server's DHCP",
  home: "/var/lib/walt-vpn-dhcp",
};
export const SERVICE_USERS: readonly ServiceUser[] = [SERVER, DHCP];

/** The command that makes a user. @param group whose members may use the server: the server's user has it, the other not */
export function useradd(user: ServiceUser, group: string): string[] {
  const words = ["--system", "--no-create-home", "--home-dir", user.home, "--shell", "/usr/sbin/nologin"];
  const own = user === SERVER ? ["--gid", group] : ["--user-group"];
  return ["useradd", ...words, ...own, "--comment", user.comment, user.name];
}

/** Whether a user is there, or somebody else has its name. */
export function lookAtUser(
  root: string,
  { name, comment, home }: ServiceUser,
): "ours" | "foreign" | "absent" {
  const users = (readTextIfAny(join(root, "/etc/passwd")) ?? "").split("\n").map((line) => line.split(":"));
  const user = users.find(([first]) => first === name);
  if (user === undefined) return "absent";
  return user[4] === comment && user[5] === home ? "ours" : "foreign";
}

/** The units, the service's first. */
export function unitFiles(
  places: ReturnType<typeof placesOf>,
  o: { command: string; config: string; group: string },
): TextFile[] {
  const values = { BINARY: quoted(o.command), CONFIG: quoted(o.config), GROUP: o.group };
  return [
    { path: places.unit, text: filled(serverTemplate, { ...values, USER: SERVER.name }) },
    { path: places.dhcpSocket, text: filled(socketTemplate, { USER: SERVER.name }) },
    { path: places.dhcpUnit, text: filled(dhcpTemplate, { USER: DHCP.name, SCRIPT: quoted(dhcpScript) }) },
  ];
}
