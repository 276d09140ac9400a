/** Argument lists for OpenSSH's ssh, with everything pinned; its complaints in words are in failure.ts. */

import { formatHostPort, type HostPort } from "../../address.ts";
import { WaltError } from "../../errors.ts";
import { VPN_USER } from "../keys/certificate.ts";

export { explainSshFailure } from "./failure.ts";

/** The name under which the server's host key is pinned, wherever the server is reached. */
export const SERVER_ALIAS = "walt-server";

/** A connection to a proxy, which forwards one local port to the next hop. */
export interface ProxyArguments {
  /** Where to connect: the proxy itself, or the local port that the hop before forwards to it. */
  connect: HostPort;
  /** The name under which its host key stands in `knownHosts`. */
  alias: string;
  keyFile: string;
  certificateFile?: string;
  knownHosts: string;
  forward: { localPort: number; to: HostPort };
  /** Seconds. */
  connectTimeout: number;
  /** The processor has AES instructions. */
  aes: boolean;
}

/** The connection to the server's endpoint, end to end. */
export interface ServerArguments {
  connect: HostPort;
  keyFile: string;
  knownHosts: string;
  /** `enrol`, `renew` or `tunnel via=…`; undefined: none, as WalT's original server wants it. */
  command: string | undefined;
  /** Seconds. */
  connectTimeout: number;
  /** Seconds of silence after which the server is asked for a sign of life, 5 unless told; two may be missing. */
  alive?: number;
}

/** Of an ssh without a command: the line on its standard error once the server has let it in. */
export const CONNECTED = "walt-connected\n";

/** Seconds, where something better than ssh tells whether the other side lives. */
const ALIVE = 5;

/**
 * The ciphers of an outer hop, the best one first. Besides being faster where there are instructions for it, AES-GCM is given new keys by
 * OpenSSH only every 64 GB, ChaCha20 every GB, and then nothing passes for as long as a key exchange takes.
 */
export function outerCiphers(aes: boolean): string[] {
  const gcm = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
  const chacha = "chacha20-poly1305@openssh.com";
  return [...(aes ? [...gcm, chacha] : [chacha, ...gcm]), "aes128-ctr", "aes256-ctr"];
}

/**
 * The command line of an outer hop. It opens a session, in which the proxy runs its forced `cat`: its standard input must be
 * kept open, since ssh ends with the session.
 * @throws WaltError when a file's path cannot be said in ssh's configuration language.
 */
export function outerArguments(h: ProxyArguments): string[] {
  return [
    ...common(h, h.alias),
    ...option("Ciphers", outerCiphers(h.aes).join(",")),
    ...(h.certificateFile === undefined ? [] : option("CertificateFile", path(h.certificateFile))),
    ...option("ExitOnForwardFailure", "yes"),
    "-L",
    `127.0.0.1:${h.forward.localPort}:${formatHostPort(h.forward.to)}`,
    ...["--", h.connect.host],
  ];
}

/**
 * The command line of the inner hop: standard input and output are the channel of `command`.
 * @throws WaltError when a file's path cannot be said in ssh's configuration language.
 */
export function innerArguments(h: ServerArguments): string[] {
  return [
    ...common(h, SERVER_ALIAS),
    ...option("Ciphers", "aes128-gcm@openssh.com"),
    ...option("KexAlgorithms", "curve25519-sha256,curve25519-sha256@libssh.org"),
    ...option("HostKeyAlgorithms", "ssh-ed25519"),
    ...option("ClearAllForwardings", "yes"),
    ...(h.command === undefined
      ? [...option("PermitLocalCommand", "yes"), ...option("LocalCommand", `echo ${CONNECTED.trim()} >&2`)]
      : []),
    ...["--", h.connect.host, ...(h.command === undefined ? [] : [h.command])],
  ];
}

function common(
  h: Pick<ProxyArguments, "connect" | "keyFile" | "knownHosts" | "connectTimeout"> & { alive?: number },
  alias: string,
): string[] {
  return [
    // No file of the machine or of a user has a say; neither agent, X11, terminal nor a shared connection.
    ...["ssh", "-F", "/dev/null", "-T", "-a", "-x", "-l", VPN_USER, "-p", String(h.connect.port)],
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
    ...option("IdentityFile", path(h.keyFile)),
    ...option("ControlPath", "none"),
    ...option("EscapeChar", "none"),
    ...option("Compression", "no"),
    // What ssh has to say about a forward that was refused is at this level.
    ...option("LogLevel", "INFO"),
    // Its default marks such a connection as background traffic (CS1), which some networks starve.
    ...option("IPQoS", "none"),
    ...option("ConnectTimeout", String(h.connectTimeout)),
    ...option("ServerAliveInterval", String(h.alive ?? ALIVE)),
    ...option("ServerAliveCountMax", "2"),
  ];
}

function option(name: string, value: string): string[] {
  return ["-o", `${name}=${value}`];
}

/** A path in ssh_config(5)'s language: quoted, `%` doubled. `~`, `${…}` and quotes have a meaning there. */
function path(file: string): string {
  if (!/^[^"\\$~\p{C}]+$/u.test(file)) {
    throw new WaltError(`the path ${JSON.stringify(file)} cannot be handed to ssh`, {
      hint: "Use a path without quotes, backslashes, $, ~ and control characters.",
    });
  }
  return `"${file.replaceAll("%", "%%")}"`;
}
