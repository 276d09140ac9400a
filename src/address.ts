/** Hosts, ports and entrypoints as people write them. What passes here may stand in a shell script or an argument. */

import { isIPv4, isIPv6 } from "node:net";
import { usageError, type WaltError } from "./errors.ts";
import { safeText } from "./text.ts";

export interface HostPort {
  /** Host name in lower case, IPv4 address, or IPv6 address in its shortest form without brackets. */
  host: string;
  port: number;
}

/** A proxy on the way. */
export interface ProxyAddress extends HostPort {
  /** The user there, where that is not `walt-vpn`. */
  user?: string;
}

/** How a device reaches the server: through proxies, the first one exposed, or straight. */
export type Entrypoint = { proxies: ProxyAddress[] } | { direct: HostPort };

/** Where sshd listens on a proxy. */
export const PROXY_PORT = 22;
/** Where the server's own endpoint listens. */
export const SERVER_PORT = 2222;
const MAX_PROXIES = 8;
/** Entrypoints of a device. */
export const MAX_ENTRYPOINTS = 8;

/** RFC 1123 labels, and the underscore that many a lab uses. Never begins with "-", never needs quoting. */
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * "h", "h:22", "[::1]:22", "[::1]" or "::1". Names are put in lower case and IPv6 addresses in their shortest form, because
 * sshd's permitopen compares letter by letter.
 * @throws WaltError (usage) on anything else.
 */
export function parseHostPort(text: string, defaultPort: number): HostPort {
  const bad = (what: string): WaltError =>
    usageError(
      `"${safeText(text, 60)}" is no address: ${what}`,
      "Write host, host:port, or [IPv6 address]:port.",
    );
  if (text.length > 300) throw bad("too long");
  const bracketed = /^\[([0-9A-Fa-f:.]+)\](?::(\d+))?$/.exec(text);
  const plain = /^([A-Za-z0-9._-]+)(?::(\d+))?$/.exec(text);
  let host: string | undefined;
  if (bracketed !== null || isIPv6(text)) host = ipv6(bracketed?.[1] ?? text);
  else if (plain !== null) host = name(plain[1] ?? "");
  else throw bad("only letters, digits, dots, dashes and underscores make a host name");
  if (host === undefined) throw bad("its host is neither a name nor an IP address");
  const digits = bracketed?.[2] ?? plain?.[2];
  const port = digits === undefined ? defaultPort : portOf(digits);
  if (port === undefined) throw bad("a port is a number from 1 to 65535");
  return { host, port };
}

function portOf(digits: string): number | undefined {
  if (!/^[1-9]\d{0,4}$/.test(digits)) return undefined;
  const port = Number(digits);
  return port > 65_535 ? undefined : port;
}

function ipv6(text: string): string | undefined {
  // A zone ("%eth0") means something on one machine only, and is not let through.
  if (!isIPv6(text) || text.includes("%")) return undefined;
  return new URL(`http://[${text}]`).hostname.slice(1, -1);
}

function name(text: string): string | undefined {
  const host = text.toLowerCase();
  const labels = host.split(".");
  if (host.length > 253 || !labels.every((label) => LABEL.test(label))) return undefined;
  // A name whose last label is a number is read as an IPv4 address by most programs (WHATWG URL, "ends in a number").
  if (/^\d+$/.test(labels.at(-1) ?? "") && !isIPv4(host)) return undefined;
  return host;
}

/** "h:22" or "[::1]:22". */
export function formatHostPort(a: HostPort): string {
  return a.host.includes(":") ? `[${a.host}]:${a.port}` : `${a.host}:${a.port}`;
}

/** A name of a user that useradd(8) takes: it may stand in an argument. */
const USER = /^[a-z_][a-z0-9_-]{0,31}$/;

/** "h:22", or "user@h". @throws WaltError (usage) on anything else. */
function parseProxy(text: string): ProxyAddress {
  const at = text.indexOf("@");
  if (at < 0) return parseHostPort(text, PROXY_PORT);
  const user = text.slice(0, at);
  if (!USER.test(user))
    throw usageError(
      `"${safeText(text, 60)}" is no proxy: what stands before the @ is no name of a user`,
      "Write host, host:port, or user@host:port.",
    );
  return { ...parseHostPort(text.slice(at + 1), PROXY_PORT), user };
}

function formatProxy(proxy: ProxyAddress): string {
  return proxy.user === undefined ? formatHostPort(proxy) : `${proxy.user}@${formatHostPort(proxy)}`;
}

/**
 * "a", "a,b:2022": a chain of proxies (port 22 unless said), the first one exposed. "user@a": another user there.
 * "ssh://host:2222": the server's endpoint itself (port 2222 unless said).
 * @throws WaltError (usage) on anything else.
 */
export function parseEntrypoint(text: string): Entrypoint {
  const scheme = "ssh://";
  if (text.startsWith(scheme)) return { direct: parseHostPort(text.slice(scheme.length), SERVER_PORT) };
  const parts = text.slice(0, 4096).split(",");
  if (text.length > 4096 || parts.length > MAX_PROXIES) {
    throw usageError(
      `"${safeText(text, 60)}" is no entrypoint: more than ${MAX_PROXIES} proxies`,
      "Write proxy[,proxy…], or ssh://host:port for a server that is reachable directly.",
    );
  }
  return { proxies: parts.map((part) => parseProxy(part.replace(/^ +| +$/g, ""))) };
}

/** The same way, without the users on it, of which only the device needs to know. */
export function withoutUsers(e: Entrypoint): Entrypoint {
  return "direct" in e ? e : { proxies: e.proxies.map(({ host, port }) => ({ host, port })) };
}

/** The text of an entrypoint, every port said: "a:22,b:2022" or "ssh://host:2222". `parseEntrypoint` reads it back. */
export function formatEntrypoint(e: Entrypoint): string {
  return "direct" in e ? `ssh://${formatHostPort(e.direct)}` : e.proxies.map(formatProxy).join(",");
}
