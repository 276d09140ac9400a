/**
 * `walt proxy run`: what a proxy's sshd does for WalT VPN, for machines without one. Devices come in with a certificate or
 * with the enrolment key, may open the one address of the next hop, and a session echoes. Everything else is refused.
 */

import { connect } from "node:net";
import type { ServerChannel, TcpipRequestInfo } from "ssh2";
import { formatHostPort, type HostPort } from "../address.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { refusalOf, VPN_PRINCIPAL, VPN_USER } from "../ssh/keys/certificate.ts";
import { fingerprint, type KeyPair, type PublicKey, sameKey } from "../ssh/keys/ed25519.ts";
import { safeText } from "../text.ts";
import { type GoodOffer, overflows, type Peer, SshListener } from "./listener.ts";
import { echo, splice } from "./splice.ts";

export interface RelayOptions {
  listen: HostPort;
  /** The only address that is let through to. */
  next: HostPort;
  ca: PublicKey;
  enrolment: PublicKey;
  hostKey: KeyPair;
  log: Log;
  /** Connections at most; 256 unless told. */
  maxConnections?: number;
  /** ms until a connection must have authenticated; 20 000 unless told. */
  grace?: number;
}

/** Channels of one connection. A device has two: the session and the way to the next hop. */
const MAX_CHANNELS = 8;
/** ms to reach the next hop. */
const CONNECT_TIMEOUT = 10_000;

export class Relay {
  private constructor(private readonly listener: SshListener) {}

  /** @throws WaltError when the port cannot be had. */
  static async start(o: RelayOptions): Promise<Relay> {
    const listener = await SshListener.start({
      ...o,
      authorise: (user, offer) => refusal(user, offer, o),
      serve: (peer) => new Guest(peer, o).welcome(),
    });
    return new Relay(listener);
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    return this.listener.address;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.listener.connections;
  }

  /** Stop listening and end every connection. */
  close(): Promise<void> {
    return this.listener.close();
  }
}

/** Why a user may not come in with a key; undefined when he may. */
function refusal(user: string, offer: GoodOffer, o: RelayOptions): string | undefined {
  if (user !== VPN_USER) return `the user is not ${VPN_USER}`;
  if (offer.certificate === undefined) {
    return sameKey(offer.key, o.enrolment) ? undefined : "neither a certificate nor the enrolment key";
  }
  const now = Math.floor(Date.now() / 1000);
  return refusalOf(offer.certificate, { ca: o.ca, principal: VPN_PRINCIPAL, now });
}

/** One authenticated connection and its channels. */
class Guest {
  /** Ends a channel's other side. */
  readonly #channels = new Set<() => void>();
  /** Channels that bytes come in on. */
  readonly #open = new Set<ServerChannel>();

  constructor(
    private readonly peer: Peer,
    private readonly o: RelayOptions,
  ) {}

  welcome(): void {
    const { client, socket, address, offer } = this.peer;
    const { log } = this.o;
    const who = offer?.certificate === undefined ? "enrolment key" : safeText(offer.certificate.keyId, 40);
    log.info("connected", {
      from: address,
      who,
      key: offer === undefined ? undefined : fingerprint(offer.key),
    });
    client.on("session", (accept, reject) => {
      if (this.#full()) return reject();
      const session = accept();
      const gone = (): void => {
        this.#channels.delete(gone);
      };
      this.#channels.add(gone);
      session.on("close", gone);
      // What was asked for is not looked at: the command is forced. No listener for pty, agent, X11 or subsystem: refused.
      session.on("shell", (open) => this.#echo(open()));
      session.on("exec", (open) => this.#echo(open()));
    });
    client.on("tcpip", (accept, reject, info) => {
      if (this.#full() || !this.#allowed(info)) return reject();
      this.#forward(accept, reject);
    });
    socket.on("data", () => {
      for (const channel of this.#open)
        if (overflows(channel)) this.peer.end("it sends more than its window");
    });
    client.on("close", () => {
      log.info("disconnected", { from: address, who });
      for (const end of this.#channels) end();
    });
  }

  #full(): boolean {
    if (this.#channels.size < MAX_CHANNELS) return false;
    this.o.log.warn("channel refused: too many", { from: this.peer.address });
    return true;
  }

  #allowed(info: TcpipRequestInfo): boolean {
    const { host, port } = this.o.next;
    if (info.destIP.toLowerCase() === host && info.destPort === port) return true;
    this.o.log.warn("channel refused: not the next hop", {
      ...{ from: this.peer.address, to: `${safeText(info.destIP, 60)}:${info.destPort}` },
      allowed: formatHostPort(this.o.next),
    });
    return false;
  }

  /** `open()` of a session that has a channel already gives none, whatever its type says. */
  #echo(channel: ServerChannel | undefined): void {
    if (channel === undefined) return;
    this.#watch(channel);
    echo(channel, this.peer);
  }

  #watch(channel: ServerChannel): void {
    this.#open.add(channel);
    channel.once("close", () => this.#open.delete(channel));
  }

  #forward(accept: () => ServerChannel, reject: () => void): void {
    const next = connect({ ...this.o.next, noDelay: true, allowHalfOpen: true, timeout: CONNECT_TIMEOUT });
    const end = (): void => {
      next.destroy();
    };
    this.#channels.add(end);
    const failed = (why: string): void => {
      this.o.log.warn("cannot reach the next hop", { next: formatHostPort(this.o.next), error: why });
      next.destroy();
      reject();
    };
    const error = (error: Error): void => failed(messageOf(error));
    const timeout = (): void => failed(`no answer for ${CONNECT_TIMEOUT} ms`);
    next.once("error", error).once("timeout", timeout);
    next.once("close", () => this.#channels.delete(end));
    next.once("connect", () => {
      next.off("error", error).off("timeout", timeout).setTimeout(0);
      this.peer.cork();
      const channel = accept();
      this.#watch(channel);
      splice(channel, next, this.peer);
    });
  }
}
