/**
 * A TCP port on which SSH is served to whoever comes, with a bound on everything that strangers can have at
 * once: connections in all, those that have not authenticated, in all and of one source address, and lines in
 * the log.
 */

import { createServer, type Server as NetServer, type Socket } from "node:net";
import type { HostPort } from "../../address.ts";
import { messageOf } from "../../errors.ts";
import { FairSet } from "../../fair-set.ts";
import { Listening } from "../../linux/listening.ts";
import type { Log } from "../../log.ts";
import { plainAddress, sourceOf } from "../../source.ts";
import type { Authorise } from "../handshake/authentication.ts";
import { type KeyPair, seedOf } from "../keys/ed25519.ts";
import { LogLimiter } from "./log-limiter.ts";
import { Peer, type PeerOptions } from "./peer.ts";

export interface ListenerOptions extends Pick<PeerOptions, "entered" | "request"> {
  listen: HostPort;
  /** By which the server proves itself, asked for each connection. */
  hostKey(): KeyPair;
  log: Log;
  /** Limits the lines that peers cause; one of its own unless given. */
  logLimiter?: LogLimiter;
  authorise: Authorise;
  /** Connections at most; 256 unless told. */
  maxConnections?: number;
  /** ms until a connection must have authenticated; 20 000 unless told. */
  grace?: number;
  /**
   * A connection from which nothing comes for so many ms, though it is asked to, is ended; 40 000 unless
   * told.
   */
  silence?: number;
}

/** Connections at most, unless told. */
const MAX_CONNECTIONS = 256;
/** Of those that have not authenticated yet, at most this part of all connections. */
const PENDING_PART = 4;
/** Of one source address at most this part of these: a proxy's address is that of all devices behind it. */
const SOURCE_PART = 4;

export class SshListener {
  /** All connections, also those that a tunnel has taken along. */
  readonly #peers = new Set<Peer>();
  /** Those of them that have not authenticated: bounded in all, and fair among source addresses. */
  readonly #pending: FairSet<Peer>;
  readonly #logLimiter: LogLimiter;

  #listening: Listening | undefined;

  private constructor(
    private readonly o: ListenerOptions,
    net: NetServer,
  ) {
    const pending = Math.max(1, Math.floor((o.maxConnections ?? MAX_CONNECTIONS) / PENDING_PART));
    this.#pending = new FairSet(pending, Math.max(1, Math.floor(pending / SOURCE_PART)));
    this.#logLimiter = o.logLimiter ?? new LogLimiter();
    net.on("connection", (socket) => this.#accept(socket));
  }

  /** @throws WaltError when the port cannot be had. */
  static async start(o: ListenerOptions): Promise<SshListener> {
    const net = createServer({ noDelay: true });
    const listener = new SshListener(o, net);
    listener.#listening = await Listening.start(net, o.listen, (error) =>
      o.log.warn("cannot accept a connection", { event: "connection-failed", error: messageOf(error) }),
    );
    return listener;
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    return this.#listening?.address ?? this.o.listen;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#peers.size;
  }

  /** Stop listening and end every connection. */
  async stop(): Promise<void> {
    const closed = this.#listening?.stop();
    for (const peer of [...this.#peers]) peer.stop("the server stops");
    await closed;
  }

  #accept(socket: Socket): void {
    const { remoteAddress, remotePort = 0 } = socket;
    const max = this.o.maxConnections ?? MAX_CONNECTIONS;
    if (remoteAddress === undefined) {
      socket.destroy(); // it has gone already
      return;
    }
    const host = plainAddress(remoteAddress);
    const source = sourceOf(host);
    const log = this.#logLimiter.limit(this.o.log, source);
    if (this.#peers.size >= max) {
      log.warn("connection refused: too many", {
        event: "connection-refused",
        from: host,
        connections: this.#peers.size,
      });
      socket.destroy();
      return;
    }
    const { authorise, request, grace = 20_000, silence = 40_000 } = this.o;
    const peer = new Peer(
      socket,
      { host, port: remotePort },
      {
        ...{ hostSeed: seedOf(this.o.hostKey()), log, authorise, request, grace, silence },
        entered: (entered) => {
          this.#pending.delete(entered);
          this.o.entered(entered);
        },
      },
    );
    this.#peers.add(peer);
    this.#pending.add(peer, source)?.stop();
    void peer.ended.then(() => {
      this.#peers.delete(peer);
      this.#pending.delete(peer);
    });
  }
}
