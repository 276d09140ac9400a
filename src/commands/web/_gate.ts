/**
 * Who may use the page. It is for the one who started `walt web`: his browser sends the token of the address
 * that was printed. Other programs of this machine reach the port too, and so does every site that his browser
 * shows. No I/O.
 */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { CONSOLE_PROTOCOL } from "../../web/messages.ts";

/** A token of 192 random bits, of characters that a URL and a subprotocol may have. */
export function newToken(): string {
  return randomBytes(24).toString("base64url");
}

/** Why something is refused: the status, and the words. */
export interface Refusal {
  readonly status: 401 | 403 | 421;
  readonly error: string;
}

export class Gate {
  readonly #token: Buffer;
  readonly #hosts: ReadonlySet<string>;

  /** @param port of 127.0.0.1 on which the page is. */
  constructor(token: string, port: number) {
    this.#token = digest(token);
    this.#hosts = new Set([`127.0.0.1:${port}`, `localhost:${port}`]);
  }

  /**
   * Whether it was meant for this page: a name that another site's owner lets lead to 127.0.0.1 is not its name
   * (DNS rebinding). So much is asked of the page's own files, in which nothing is secret.
   */
  foreign(request: Request): Refusal | undefined {
    const host = request.headers.get("host") ?? "";
    if (!this.#hosts.has(host)) return { status: 421, error: "this is not the address of the page" };
    const origin = request.headers.get("origin");
    if (origin !== null && origin !== `http://${host}`) return FOREIGN;
    return undefined;
  }

  /** Whether it may have what is not for everybody, or do something. */
  refusal(request: Request): Refusal | undefined {
    const foreign = this.foreign(request);
    if (foreign !== undefined) return foreign;
    // Browsers say what makes a request; a page's own script is `same-origin`.
    const site = request.headers.get("sec-fetch-site");
    if (site !== null && site !== "same-origin") return FOREIGN;
    const isSocket = request.headers.get("upgrade") !== null;
    const isRead = request.method === "GET" && !isSocket;
    if (!isRead && request.headers.get("origin") === null) return FOREIGN;
    const token = isSocket ? ofProtocols(request) : ofAuthorization(request);
    return timingSafeEqual(digest(token), this.#token) ? undefined : NO_TOKEN;
  }
}

const FOREIGN: Refusal = { status: 403, error: "another site's page may not use this one" };
const NO_TOKEN: Refusal = {
  status: 401,
  error: "the token is missing or wrong: open the address that `walt web` has printed",
};

/** Of the same length whatever was said, so that it can be compared in constant time. */
function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function ofAuthorization(request: Request): string {
  return /^Bearer (\S{1,100})$/.exec(request.headers.get("authorization") ?? "")?.[1] ?? "";
}

function ofProtocols(request: Request): string {
  const [name, token = ""] = (request.headers.get("sec-websocket-protocol") ?? "").split(/\s*,\s*/);
  return name === CONSOLE_PROTOCOL ? token : "";
}

/**
 * The headers of every answer. The page's own files and nothing else: no inline script, no text that becomes
 * HTML (Trusted Types), no other host. Styles may be inline, because xterm.js writes those of its terminal so.
 */
export function securityHeaders(port: number): Record<string, string> {
  const sockets = [`ws://127.0.0.1:${port}`, `ws://localhost:${port}`];
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    `connect-src 'self' ${sockets.join(" ")}`,
    "img-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ];
  return {
    "content-security-policy": policy.join("; "),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
  };
}
