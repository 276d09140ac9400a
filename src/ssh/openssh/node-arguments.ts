/**
 * Arguments of OpenSSH's ssh and scp for a login on a node. They use the operator's own keys, of the agent and in
 * the files that ssh tries by itself, and no configuration file.
 */

import { WaltError } from "../../errors.ts";
import { option, path } from "./arguments.ts";

/** What is known of a login. */
export interface NodeArguments {
  /** The node's IP address on walt-net. */
  readonly address: string;
  /** The name under which its host keys are in `knownHosts`. */
  readonly alias: string;
  readonly user: string;
  /** Path of the file with the node's host keys. */
  readonly knownHosts: string;
  /** Paths of private keys, in the language of `ssh -i`; ssh's own ones unless there are some. */
  readonly identities: readonly string[];
  /** Path of the control socket of a connection to the server's machine; undefined on the server itself. */
  readonly control: string | undefined;
  /** Whether ssh may ask for passwords and passphrases. */
  readonly asks: boolean;
}

/** Seconds until a node must have answered. */
const CONNECT_TIMEOUT = 10;
/** Seconds of silence after which ssh asks for a sign of life. It gives up after four times that. */
const ALIVE = 15;

/**
 * Options for ssh and scp: the host key must be a known one.
 * @throws WaltError when the path of a file cannot be written in ssh's configuration language.
 */
export function nodeOptions(h: NodeArguments): string[] {
  return [
    ...connection(h),
    ...option("User", h.user),
    ...option("BatchMode", h.asks ? "no" : "yes"),
    ...option("StrictHostKeyChecking", "yes"),
    ...h.identities.flatMap((file) => ["-i", file]),
  ];
}

/**
 * The command line of a connection that only learns the node's host key: ssh adds it to the file `knownHosts`.
 * It does not log in, so that it always fails.
 * @throws as `nodeOptions`.
 */
export function hostKeyArguments(name: string, h: NodeArguments): string[] {
  return [
    ...["ssh", ...connection(h), "-T"],
    ...option("BatchMode", "yes"),
    ...option("StrictHostKeyChecking", "accept-new"),
    ...option("HashKnownHosts", "no"),
    ...option("PreferredAuthentications", "none"),
    ...["--", name],
  ];
}

function connection(h: NodeArguments): string[] {
  return [
    // Configuration of the machine or the operator may be for other hosts of this name or address.
    ...["-F", "none"],
    ...option("HostName", h.address),
    ...option("HostKeyAlias", h.alias),
    ...option("UserKnownHostsFile", path(h.knownHosts)),
    ...option("GlobalKnownHostsFile", "/dev/null"),
    ...option("CheckHostIP", "no"),
    ...option("UpdateHostKeys", "no"),
    ...option("ControlPath", "none"),
    ...option("ForwardAgent", "no"),
    ...option("ConnectTimeout", String(CONNECT_TIMEOUT)),
    ...option("ServerAliveInterval", String(ALIVE)),
    ...(h.control === undefined
      ? []
      : option("ProxyCommand", [...throughServer(h.control), "-W", '"[%h]:%p"', "--", "server"].join(" "))),
  ];
}

/**
 * The beginning of an ssh that uses the connection to the server's machine. When that connection is gone it fails,
 * and does not connect anew.
 * @throws WaltError when the socket's path means something to a shell.
 */
export function throughServer(control: string): string[] {
  // The user's shell reads this, after ssh.
  if (!/^[\w/.,+:@-]+$/.test(control)) {
    throw new WaltError(`the path ${JSON.stringify(control)} cannot be given to ssh`, {
      hint: "Set TMPDIR to a path without blanks and special characters.",
    });
  }
  return ["ssh", "-q", "-F", "none", "-S", control, "-o", "BatchMode=yes", "-o", "ProxyCommand=false"];
}
