/** The relay's TCP port, on which ssh2 serves SSH: connections until they have authenticated. */

import { createServer, type Server as NetServer, type Socket } from "node:net";
import ssh2, { type AuthContext, type Connection } from "ssh2";
import { formatHostPort, type HostPort } from "../address.ts";
import { messageOf } from "../errors.ts";
import { FairSet } from "../fair-set.ts";
import { Listening } from "../linux/listening.ts";
import { plainAddress, sourceOf } from "../source.ts";
import { ALGORITHMS } from "../ssh/handshake/algorithms.ts";
import type { GoodOffer } from "../ssh/handshake/authentication.ts";
import { verifyOffer } from "../ssh/handshake/offered-key.ts";
import { fingerprint, type KeyPair } from "../ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../ssh/keys/key-files.ts";
import { safeText } from "../text.ts";
import { type BoundedLog, ConnectionLog } from "./bounded-log.ts";
import type { MemoryBudget } from "./memory-budget.ts";
import { Peer } from "./peer.ts";

export interface ListenerOptions {
  listen: HostPort;
  hostKey: KeyPair;
  log: BoundedLog;
  memory: MemoryBudget;
  /**
   * Why a user may not log in with this key, in words for the log; undefined if it may. Asked for probes,
   * too.
   */
  authorise: (user: string, offer: GoodOffer) => string | undefined;
  /** A client has authenticated: what it asks for comes from now on. */
  serve: (peer: Peer, offer: GoodOffer) => void;
  /**
   * Connections that have not authenticated, at most. When one more comes, one of the source with most goes.
   */
  maxPending: number;
  /** ms until a connection must have authenticated. */
  grace: number;
}

/**
 * Questions and keys that are answered on one connection. OpenSSH's MaxAuthTries is 6, questions not counted.
 */
const MAX_ATTEMPTS = 12;
/** ms: a connection from which nothing comes for so long, though it is asked to, is ended. */
const SILENCE = 40_000;
/** Questions whether a silent client is there; when as many answers are missing it is not. */
const KEEPALIVES = 2;

interface Open {
  /** "192.0.2.1:50000" */
  readonly address: string;
  readonly socket: Socket;
  readonly source: string;
  readonly log: ConnectionLog;
  readonly timer: Timer;
  /** Set once the client has sent its first line. */
  peer: Peer | undefined;
}

export class SshListener {
  /** By address and port. */
  readonly #open = new Map<string, Open>();
  readonly #pending: FairSet<Open>;
  readonly #ssh: ssh2.Server;

  #listening: Listening | undefined;

  private constructor(
    private readonly o: ListenerOptions,
    net: NetServer,
  ) {
    this.#pending = new FairSet(o.maxPending);
    this.#ssh = new ssh2.Server(
      {
        hostKeys: [encodePrivateKey(o.hostKey)],
        algorithms: ALGORITHMS,
        ident: "walt",
        keepaliveInterval: SILENCE / (KEEPALIVES + 1),
        keepaliveCountMax: KEEPALIVES,
      },
      (client, info) => {
        const open = this.#open.get(addressOf(info.ip, info.port));
        if (open !== undefined && !open.socket.destroyed) this.#greet(client, open);
      },
    );
    net.on("connection", (socket) => this.#accept(socket));
  }

  /** @throws WaltError when the port cannot be had. */
  static async start(o: ListenerOptions): Promise<SshListener> {
    const net = createServer({ noDelay: true });
    const listener = new SshListener(o, net);
    listener.#listening = await Listening.start(net, o.listen, (error) =>
      o.log.line("warn", "", false, "cannot accept a connection", {
        event: "connection-failed",
        error: messageOf(error),
      }),
    );
    return listener;
  }

  /** Where it listens: with the port that it was given when 0 was asked for. */
  get address(): HostPort {
    return this.#listening?.address ?? this.o.listen;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#open.size;
  }

  /** Stop listening and end every connection. */
  async stop(): Promise<void> {
    const closed = this.#listening?.stop();
    for (const open of [...this.#open.values()]) this.#stop(open, "the relay stops");
    await closed;
  }

  #accept(socket: Socket): void {
    if (socket.remoteAddress === undefined) {
      socket.destroy();
      return;
    }
    const address = addressOf(socket.remoteAddress, socket.remotePort ?? 0);
    const source = sourceOf(socket.remoteAddress);
    const log = new ConnectionLog(this.o.log, address, source);
    const timer = setTimeout(() => this.#stop(open, "it did not authenticate in time"), this.o.grace);
    const open: Open = { address, socket, source, log, timer, peer: undefined };
    this.#open.set(address, open);
    socket.once("close", () => this.#forget(open));
    const evicted = this.#pending.add(open, source);
    if (evicted !== undefined) {
      this.#stop(evicted, `more than ${this.o.maxPending} connections have not authenticated`);
    }
    if (evicted !== open) this.#ssh.injectSocket(socket);
  }

  /** End a connection, and count it no longer, whatever time its socket takes. */
  #stop(open: Open, reason: string): void {
    if (open.peer !== undefined) open.peer.stop(reason);
    else open.log.info("connection ended", { event: "connection-ended", reason });
    open.socket.destroy();
    this.#forget(open);
  }

  #forget(open: Open): void {
    clearTimeout(open.timer);
    this.#pending.delete(open);
    if (this.#open.get(open.address) !== open) return;
    this.#open.delete(open.address);
    open.log.summarise();
  }

  /** The client has sent its first line. */
  #greet(client: Connection, open: Open): void {
    const { socket, log } = open;
    const peer = new Peer(client, socket, open.source, log, this.o.memory);
    open.peer = peer;
    let attempts = 0;
    client.on("error", (error) => {
      log.debug("connection broke", { event: "detail", error: safeText(messageOf(error), 200) });
      socket.destroy(); // ssh2 would wait for a peer that may be silent for ever
    });
    client.on("authentication", (ctx: AuthContext) => {
      if (++attempts > MAX_ATTEMPTS) return peer.stop("too many attempts to authenticate");
      if (ctx.method !== "publickey") return ctx.reject(["publickey"]);
      const offer = verifyOffer(ctx);
      const reason = offer.kind === "refused" ? offer.reason : this.o.authorise(ctx.username, offer);
      if (reason === undefined && offer.kind !== "refused") {
        if (offer.kind === "signed") peer.offer = offer;
        return ctx.accept();
      }
      log.info("key refused", {
        event: "key-refused",
        ...{ user: safeText(ctx.username, 32), reason },
        ...(offer.kind === "refused" ? {} : { key: fingerprint(offer.key) }),
      });
      ctx.reject(["publickey"]);
    });
    client.on("ready", () => {
      clearTimeout(open.timer);
      this.#pending.delete(open);
      if (peer.offer === undefined) peer.stop("it has shown no key");
      else this.o.serve(peer, peer.offer);
    });
  }
}

/** `host:port`; of an IPv4 peer on an IPv6 socket the IPv4 address. */
function addressOf(ip: string, port: number): string {
  return formatHostPort({ host: plainAddress(ip), port });
}
