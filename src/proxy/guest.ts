/**
 * What an authenticated client may do on the relay: one session, which echoes, and channels to the next hop.
 */

import { connect } from "node:net";
import type { ServerChannel, Session, TcpipRequestInfo } from "ssh2";
import { formatHostPort, type HostPort } from "../address.ts";
import { messageOf } from "../errors.ts";
import { safeText } from "../text.ts";
import type { Peer } from "./peer.ts";
import { echo, splice } from "./splice.ts";

/**
 * Channels of one connection to the next hop: a device has one for its tunnel, and now and then one for a
 * renewal.
 */
const MAX_FORWARDED = 4;
/** ms to reach the next hop. */
const CONNECT_TIMEOUT = 10_000;

export class Guest {
  /** The session, of which there is one at a time. */
  #session: Session | undefined;
  /** Ends the other side of each forwarded channel. */
  readonly #forwarded = new Set<() => void>();

  constructor(
    private readonly peer: Peer,
    private readonly next: HostPort,
  ) {}

  /** Answer what the client asks for from now on. */
  serve(): void {
    const { client, log, guard, socket } = this.peer;
    client.on("session", (accept, reject) => {
      if (this.#session !== undefined) {
        log.warn("session refused: there is one already", { event: "channel-refused" });
        reject();
        guard.refused();
        return;
      }
      const session = accept();
      this.#session = session;
      session.once("close", () => {
        if (this.#session === session) this.#session = undefined;
      });
      // What was asked for is not looked at: the command is forced. No listener for pty, agent, X11 or
      // subsystem: refused.
      session.on("shell", (open) => this.#echo(open()));
      session.on("exec", (open) => this.#echo(open()));
    });
    client.on("tcpip", (accept, reject, info) => {
      if (!this.#full() && this.#allowed(info)) return this.#forward(accept, reject);
      reject();
      guard.refused();
    });
    socket.once("close", () => {
      for (const end of this.#forwarded) end();
    });
  }

  #full(): boolean {
    if (this.#forwarded.size < MAX_FORWARDED) return false;
    this.peer.log.warn("channel refused: too many", { event: "channel-refused", most: MAX_FORWARDED });
    return true;
  }

  #allowed(info: TcpipRequestInfo): boolean {
    const { host, port } = this.next;
    if (info.destIP.toLowerCase() === host && info.destPort === port) return true;
    this.peer.log.warn("channel refused: not the next hop", {
      event: "channel-refused",
      to: `${safeText(info.destIP, 60)}:${info.destPort}`,
      allowed: formatHostPort(this.next),
    });
    return false;
  }

  /** `open()` of a session that has a channel already gives none, whatever its type says. */
  #echo(channel: ServerChannel | undefined): void {
    if (channel !== undefined) echo(channel, this.peer);
  }

  #forward(accept: () => ServerChannel, reject: () => void): void {
    const next = connect({ ...this.next, noDelay: true, allowHalfOpen: true, timeout: CONNECT_TIMEOUT });
    const end = (): void => {
      next.destroy();
    };
    this.#forwarded.add(end);
    const failed = (why: string): void => {
      this.peer.log.warn("cannot reach the next hop", {
        event: "next-hop-unreachable",
        next: formatHostPort(this.next),
        error: why,
      });
      next.destroy();
      reject();
    };
    const error = (error: Error): void => failed(messageOf(error));
    const timeout = (): void => failed(`no answer for ${CONNECT_TIMEOUT} ms`);
    next.once("error", error).once("timeout", timeout);
    next.once("close", () => this.#forwarded.delete(end));
    next.once("connect", () => {
      next.off("error", error).off("timeout", timeout).setTimeout(0);
      if (this.peer.socket.destroyed) {
        next.destroy();
        return;
      }
      this.peer.cork();
      splice(accept(), next, this.peer);
    });
  }
}
