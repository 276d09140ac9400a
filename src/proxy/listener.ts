/**
 * A TCP port on which ssh2 serves SSH to whoever comes: with limits, a grace time, and memory that is bounded although ssh2
 * writes to its socket without ever asking whether the other side reads.
 */

import { createServer, type Server as NetServer, type Socket } from "node:net";
import ssh2, { type AuthContext, type Connection, type ServerChannel } from "ssh2";
import { formatHostPort, type HostPort } from "../address.ts";
import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { ALGORITHMS } from "../ssh/handshake/algorithms.ts";
import { type Offer, verifyOffer } from "../ssh/handshake/offered-key.ts";
import { fingerprint, type KeyPair } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import { safeText } from "../text.ts";

/** A key that has been offered, or proven to be held. */
export type GoodOffer = Exclude<Offer, { kind: "refused" }>;

export interface ListenerOptions {
  listen: HostPort;
  hostKey: KeyPair;
  log: Log;
  /** Why a user may not come in with this key, in words for the log; undefined when he may. Asked for probes, too. */
  authorise: (user: string, offer: GoodOffer) => string | undefined;
  /** Somebody is in: his channels come from now on. */
  serve: (peer: Peer) => void;
  /** Connections at most; 256 unless told. */
  maxConnections?: number;
  /** ms until a connection must have authenticated; 20 000 unless told. */
  grace?: number;
  /** A connection from which nothing comes for so many ms, though it is asked to, is ended; 40 000 unless told. */
  silence?: number;
}

/** Of those that have not authenticated yet, at most this part of all; the oldest goes when one more comes. */
const PENDING_PART = 4;
/** Keys that are tried on one connection. OpenSSH's MaxAuthTries is 6, probes not counted. */
const MAX_ATTEMPTS = 12;
/** Bytes that wait to be sent on a connection before nothing more is read from it. */
const CONGESTION = 1 << 20;
/** Questions whether a silent peer is there; when as many answers are missing it is not. */
const KEEPALIVES = 2;

/** The other side of one connection. */
export class Peer {
  /** Set once it has authenticated. */
  offer: GoodOffer | undefined;
  /** Resolves when the connection is over, whoever had it last. */
  readonly gone: Promise<void>;
  readonly #goes = Promise.withResolvers<void>();
  readonly #waiting: (() => void)[] = [];
  #corked = false;

  constructor(
    readonly client: Connection,
    /** "192.0.2.1:50000", for logs. */
    readonly address: string,
    readonly log: Log,
    readonly socket: Socket,
    readonly hostKey: KeyPair,
  ) {
    this.gone = this.#goes.promise;
    socket.once("close", () => this.#goes.resolve());
  }

  /** Whether so much waits to be sent that whoever feeds this connection should pause. */
  get congested(): boolean {
    return this.socket.writableLength > CONGESTION;
  }

  /** Call back once no more than a little waits to be sent; at once if so, never if the connection ends first. */
  whenClear(then: () => void): void {
    if (!this.congested) then();
    else if (this.#waiting.push(then) === 1) this.#awaitDrain();
  }

  /**
   * Call before writing to a channel: all that is written in this turn of the event loop goes out in one system call. ssh2
   * itself makes three calls per packet.
   */
  cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.socket.cork();
    setImmediate(() => {
      this.#corked = false;
      this.socket.uncork();
      if (this.congested && !this.socket.isPaused()) {
        // Whoever does not read what he causes us to send is not read from either.
        this.socket.pause();
        this.whenClear(() => {
          this.socket.resume();
        });
      }
    });
  }

  /** End the connection at once. */
  end(reason: string): void {
    this.log.info("connection ended", { from: this.address, reason });
    this.socket.destroy();
  }

  #awaitDrain(): void {
    this.socket.once("drain", () => {
      for (const then of this.#waiting.splice(0)) then();
    });
  }
}

/**
 * What may honestly wait to be read of a channel: ssh2 opens its window of 2 MiB anew until as much waits already, and then
 * takes the packet that crosses the line. It does not stop a client that sends more.
 */
const MOST_WAITING = 2 * 2 * 1024 * 1024 + 64 * 1024;
/** Whether a client has sent more on a channel than it may: it must not fill our memory. */
export function overflows(channel: ServerChannel): boolean {
  return channel.readableLength > MOST_WAITING;
}

/** `host:port`; of an IPv4 peer on an IPv6 socket the IPv4 address. */
function peerAddress(ip: string, port: number): string {
  return formatHostPort({ host: ip.replace(/^::ffff:(?=\d+\.)/, ""), port });
}

interface Open {
  readonly socket: Socket;
  /** Tell that it has authenticated. */
  readonly entered: () => void;
  /** Once it has sent its first line. */
  peer: Peer | undefined;
}

export class SshListener {
  /** By address: the connections. */
  readonly #peers = new Map<string, Open>();
  readonly #pending = new Set<Socket>();
  readonly #ssh: ssh2.Server;

  private constructor(
    private readonly o: ListenerOptions,
    private readonly net: NetServer,
  ) {
    this.#ssh = new ssh2.Server(
      {
        hostKeys: [encodePrivateKey(o.hostKey)],
        algorithms: ALGORITHMS,
        ident: "walt",
        keepaliveInterval: (o.silence ?? 40_000) / (KEEPALIVES + 1),
        keepaliveCountMax: KEEPALIVES,
      },
      (client, info) => {
        const address = peerAddress(info.ip, info.port);
        const known = this.#peers.get(address);
        if (known === undefined) return;
        known.peer = new Peer(client, address, o.log, known.socket, o.hostKey);
        this.#greet(known.peer, known.entered);
      },
    );
    net.on("connection", (socket) => this.#take(socket));
  }

  /** @throws WaltError when the port cannot be had. */
  static async start(o: ListenerOptions): Promise<SshListener> {
    const net = createServer({ noDelay: true });
    const listener = new SshListener(o, net);
    await new Promise<void>((resolve, reject) => {
      net.once("error", (error) =>
        reject(
          new WaltError(`cannot listen on ${formatHostPort(o.listen)}: ${messageOf(error)}`, {
            hint: "Is something else listening there, or is a port below 1024 only root's?",
            cause: error,
          }),
        ),
      );
      net.listen(o.listen.port, o.listen.host, resolve);
    });
    net.on("error", (error) => o.log.warn("cannot accept a connection", { error: messageOf(error) }));
    return listener;
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    const address = this.net.address();
    return typeof address === "object" && address !== null
      ? { host: address.address, port: address.port }
      : this.o.listen;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#peers.size;
  }

  /** Stop listening and end every connection. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.net.close(() => resolve()));
    for (const { socket, peer } of this.#peers.values()) {
      if (peer === undefined) socket.destroy();
      else peer.end("the server stops");
    }
    await closed;
  }

  #take(socket: Socket): void {
    const max = this.o.maxConnections ?? 256;
    if (socket.remoteAddress === undefined || this.#peers.size >= max) {
      this.o.log.warn("connection refused: too many", {
        from: socket.remoteAddress,
        connections: this.#peers.size,
      });
      socket.destroy();
      return;
    }
    const address = peerAddress(socket.remoteAddress, socket.remotePort ?? 0);
    this.#pending.add(socket);
    const [oldest] = this.#pending;
    if (this.#pending.size > Math.max(1, max / PENDING_PART)) oldest?.destroy();
    const timer = setTimeout(() => {
      this.o.log.debug("connection ended: it did not authenticate in time", { from: address });
      socket.destroy();
    }, this.o.grace ?? 20_000);
    const entered = (): void => {
      clearTimeout(timer);
      this.#pending.delete(socket);
    };
    const open: Open = { socket, entered, peer: undefined };
    this.#peers.set(address, open);
    socket.once("close", () => {
      entered();
      const forget = (): void => {
        if (this.#peers.get(address) === open) this.#peers.delete(address);
      };
      if (open.peer === undefined) forget();
      else void open.peer.gone.then(forget);
    });
    this.#ssh.injectSocket(socket);
  }

  /** Somebody has sent the first line of SSH. */
  #greet(peer: Peer, entered: () => void): void {
    const { client, socket, address } = peer;
    const { log } = this.o;
    let attempts = 0;
    socket.prependListener("data", () => peer.cork());
    client.on("error", (error) => {
      log.debug("connection broke", { from: address, error: safeText(messageOf(error), 200) });
      socket.destroy(); // ssh2 would wait for a peer that may be silent for ever
    });
    client.on("authentication", (ctx: AuthContext) => {
      if (ctx.method !== "publickey") {
        if (ctx.method !== "none" && ++attempts > MAX_ATTEMPTS) peer.end("too many attempts");
        else ctx.reject(["publickey"]);
        return;
      }
      const offer = verifyOffer(ctx);
      const reason = offer.kind === "refused" ? offer.reason : this.o.authorise(ctx.username, offer);
      if (reason === undefined && offer.kind !== "refused") {
        if (offer.kind === "signed") peer.offer = offer;
        ctx.accept();
        return;
      }
      log.info("key refused", {
        ...{ from: address, user: safeText(ctx.username, 32), reason },
        ...(offer.kind === "refused" ? {} : { key: fingerprint(offer.key) }),
      });
      if (++attempts > MAX_ATTEMPTS) peer.end("too many attempts");
      else ctx.reject(["publickey"]);
    });
    client.on("ready", () => {
      entered();
      this.o.serve(peer);
    });
  }
}
