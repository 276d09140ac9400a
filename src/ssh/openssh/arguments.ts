/**
 * Command lines of OpenSSH's ssh, which depend on no configuration of the machine or of a user. Its error
 * messages are explained in failure.ts.
 */

import { formatHostPort, type HostPort } from "../../address.ts";
import { WaltError } from "../../errors.ts";
import { VPN_USER } from "../keys/certificate.ts";

export { explainSshFailure } from "./failure.ts";

/** The name under which the server's host key is pinned, whatever address the server has. */
export const SERVER_ALIAS = "walt-server";

/** A connection to a proxy, which forwards one local port to the next hop. */
export interface ProxyArguments {
  /** Where to connect: the proxy itself, or the local port that the connection before forwards to it. */
  connect: HostPort;
  /** The user on the proxy; `walt-vpn` unless given. */
  user?: string | undefined;
  /** The name under which its host key is in `knownHosts`. */
  alias: string;
  /** Paths of private keys, which are tried in this order. */
  keyFiles: readonly string[];
  /** Paths of certificates of these keys, which are tried first. */
  certificateFiles?: readonly string[];
  /** Path of the file with the pinned host keys. */
  knownHosts: string;
  /** The local port that ssh listens on, and the next hop that the proxy connects to. */
  forward: { localPort: number; to: HostPort };
  /** Seconds. */
  connectTimeout: number;
  /** Whether the processor has AES instructions. */
  aes: boolean;
}

/** The connection to the server's endpoint, which is encrypted from the device to the server. */
export interface ServerArguments {
  /** Where to connect: the server itself, or the local port that the last proxy forwards to it. */
  connect: HostPort;
  /** Paths of private keys, which are tried in this order. */
  keyFiles: readonly string[];
  /** Path of the file with the pinned host keys. */
  knownHosts: string;
  /** `enrol`, `renew` or `tunnel via=…`; undefined for a server of WalT's own VPN, which needs no command. */
  command: string | undefined;
  /** Seconds. */
  connectTimeout: number;
  /**
   * Seconds of silence after which ssh asks the server for a sign of life; 5 unless given. It gives up after
   * three times that.
   */
  alive?: number;
}

/** What an ssh without a command prints to its standard error once the other end has let it in. */
export const CONNECTED = "walt-connected\n";

/**
 * Seconds of silence after which ssh asks for a sign of life, where another check detects a dead peer sooner.
 */
const ALIVE = 5;

/**
 * The ciphers of a connection to a proxy, the best one first. AES-GCM is faster if the processor has
 * instructions for it. It also needs fewer key exchanges, during which nothing passes: OpenSSH makes one
 * every 64 GB for AES-GCM, and every GB for ChaCha20.
 */
export function proxyCiphers(aes: boolean): string[] {
  const gcm = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
  const chacha = "chacha20-poly1305@openssh.com";
  return [...(aes ? [...gcm, chacha] : [chacha, ...gcm]), "aes128-ctr", "aes256-ctr"];
}

/**
 * The command line of a connection to a proxy. It opens a session, in which the proxy runs its forced command
 * `cat`. Keep its standard input open: ssh ends when the session does.
 * @throws WaltError when the path of a file cannot be written in ssh's configuration language.
 */
export function proxyArguments(h: ProxyArguments): string[] {
  return [
    ...common(h, h.alias),
    ...option("Ciphers", proxyCiphers(h.aes).join(",")),
    ...(h.certificateFiles ?? []).flatMap((file) => option("CertificateFile", path(file))),
    ...option("ExitOnForwardFailure", "yes"),
    ...tellEntry(),
    "-L",
    `127.0.0.1:${h.forward.localPort}:${formatHostPort(h.forward.to)}`,
    ...["--", h.connect.host],
  ];
}

/**
 * The command line of a connection to the server. Its standard input and output are those of `command`.
 * @throws WaltError when the path of a file cannot be written in ssh's configuration language.
 */
export function serverArguments(h: ServerArguments): string[] {
  return [
    ...common(h, SERVER_ALIAS),
    ...option("Ciphers", "aes128-gcm@openssh.com"),
    ...option("KexAlgorithms", "curve25519-sha256,curve25519-sha256@libssh.org"),
    ...option("HostKeyAlgorithms", "ssh-ed25519"),
    ...option("ClearAllForwardings", "yes"),
    ...(h.command === undefined ? tellEntry() : []),
    ...["--", h.connect.host, ...(h.command === undefined ? [] : [h.command])],
  ];
}

/** ssh prints `CONNECTED`. */
function tellEntry(): string[] {
  return [...option("PermitLocalCommand", "yes"), ...option("LocalCommand", `echo ${CONNECTED.trim()} >&2`)];
}

function common(
  h: Pick<ProxyArguments, "connect" | "keyFiles" | "knownHosts" | "connectTimeout"> & {
    alive?: number;
    user?: string | undefined;
  },
  alias: string,
): string[] {
  return [
    // No configuration file of the machine or of a user is read. There is no agent, no X11, no terminal and
    // no connection that is shared with other processes.
    ...["ssh", "-F", "/dev/null", "-T", "-a", "-x", "-l", h.user ?? VPN_USER, "-p", String(h.connect.port)],
    ...option("BatchMode", "yes"),
    ...option("StrictHostKeyChecking", "yes"),
    ...option("UserKnownHostsFile", path(h.knownHosts)),
    ...option("GlobalKnownHostsFile", "/dev/null"),
    ...option("HostKeyAlias", alias),
    ...option("CheckHostIP", "no"),
    ...option("UpdateHostKeys", "no"),
    ...option("VerifyHostKeyDNS", "no"),
    ...option("PreferredAuthentications", "publickey"),
    ...option("IdentitiesOnly", "yes"),
    ...option("IdentityAgent", "none"),
    ...h.keyFiles.flatMap((file) => option("IdentityFile", path(file))),
    ...option("ControlPath", "none"),
    ...option("EscapeChar", "none"),
    ...option("Compression", "no"),
    // At this level ssh reports a forward that the proxy refuses, which failure.ts needs.
    ...option("LogLevel", "INFO"),
    // By default, ssh marks a connection without a terminal as background traffic (CS1), which some networks
    // slow down.
    ...option("IPQoS", "none"),
    ...option("ConnectTimeout", String(h.connectTimeout)),
    ...option("ServerAliveInterval", String(h.alive ?? ALIVE)),
    ...option("ServerAliveCountMax", "2"),
  ];
}

/** An option of ssh_config(5). */
export function option(name: string, value: string): string[] {
  return ["-o", `${name}=${value}`];
}

/**
 * A path in the language of ssh_config(5): in quotes, with `%` doubled.
 * @throws WaltError for `~`, `$`, quotes and backslashes, which have a meaning there, and for control
 *   characters.
 */
export function path(file: string): string {
  if (!/^[^"\\$~\p{C}]+$/u.test(file)) {
    throw new WaltError(`the path ${JSON.stringify(file)} cannot be given to ssh`, {
      hint: "Use a path without quotes, backslashes, $, ~ and control characters.",
    });
  }
  return `"${file.replaceAll("%", "%%")}"`;
}
