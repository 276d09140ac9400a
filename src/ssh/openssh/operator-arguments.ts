/**
 * Arguments of the operator's own ssh to the server's machine. The operator's configuration decides how to get there:
 * names, ports, users, keys, agents, jumps, and known host keys. What it says of sessions and forwardings is for
 * other uses, and could break this one.
 */

import { option } from "./arguments.ts";
import { throughServer } from "./node-arguments.ts";

/** Bytes that OpenSSH appends to the path of a control socket while it makes it (mux.c, muxserver_listen). */
const CONTROL_SUFFIX = 17;
/** Bytes of the longest path of a UNIX socket (unix(7)). */
const SOCKET_PATH = 107;
/** Names of the sockets in their folder. */
const CONTROL = "/ssh";
const API = "/api";

/** Bytes that the path of the folder of both sockets may have. */
export const SOCKET_FOLDER_LONGEST = SOCKET_PATH - CONTROL_SUFFIX - CONTROL.length;

/** The paths of a connection's sockets. @throws WaltError when ssh cannot be given a path. */
export function operatorSockets(folder: string): { control: string; api: string } {
  const control = `${folder}${CONTROL}`;
  throughServer(control);
  return { control, api: `${folder}${API}` };
}

/** What ssh_config(5) says besides the way to a host, with the values that a connection for others needs. */
const OWN: readonly (readonly [name: string, value: string])[] = [
  // No session, and no command in one.
  ["RemoteCommand", "none"],
  ["RequestTTY", "no"],
  ["PermitLocalCommand", "no"],
  // A connection of our own, that ends with us.
  ["ControlMaster", "yes"],
  ["ControlPersist", "no"],
  // Those of the configuration may be in use by a session of the operator's. Ours is asked for later.
  ["ClearAllForwardings", "yes"],
  ["Tunnel", "no"],
  ["StreamLocalBindMask", "0177"],
  // What is said of refused connections is read.
  ["LogLevel", "INFO"],
];

/** The same of OpenSSH 8.7 and newer; earlier versions refuse them as unknown. */
const OWN_SINCE_8_7: readonly (readonly [name: string, value: string])[] = [
  ["ForkAfterAuthentication", "no"],
  ["StdinNull", "no"],
];

/** Where the server is, as the operator has typed it. */
export interface OperatorArguments {
  readonly host: string;
  readonly user: string | undefined;
  readonly port: string | undefined;
  /** Path of the control socket. */
  readonly control: string;
  /** What `ssh -V` prints. */
  readonly version: string;
}

/** The command line of the connection. It makes no forwarding. */
export function operatorArguments(h: OperatorArguments): string[] {
  const own = [...OWN, ...(isAtLeast(h.version, 8, 7) ? OWN_SINCE_8_7 : [])];
  return [
    ...["ssh", "-N", "-T", "-a", "-x", "-S", h.control],
    ...own.flatMap(([name, value]) => option(name, value)),
    ...(h.user === undefined ? [] : ["-l", h.user]),
    ...(h.port === undefined ? [] : ["-p", h.port]),
    ...["--", h.host],
  ];
}

/** The command line that has the connection forward a socket here to one of the server's machine. */
export function forwardArguments(control: string, from: string, to: string): string[] {
  return [...throughServer(control), "-O", "forward", "-L", `${from}:${to}`, "--", "server"];
}

/** @param version what `ssh -V` prints: `OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19`. */
function isAtLeast(version: string, major: number, minor: number): boolean {
  const [, first = "0", second = "0"] = /OpenSSH_\D*(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}
