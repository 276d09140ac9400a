/**
 * The other side of one connection: a socket of the event loop below a ServerConnection, until a tunnel takes
 * it along.
 */

import { closeSync } from "node:fs";
import type { Socket } from "node:net";
import { formatHostPort, type HostPort } from "../../address.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { release } from "../../linux/fd-socket.ts";
import type { EventFields, Log } from "../../log.ts";
import { FirstOfKind } from "../../log-budget.ts";
import { safeText } from "../../text.ts";
import type { Authorise, SignedOffer } from "../handshake/authentication.ts";
import type { Channel } from "../handshake/channel.ts";
import type { Request } from "../handshake/connection.ts";
import type { ConnectionState } from "../handshake/connection-state.ts";
import { ServerConnection, type ServerEvent } from "../handshake/server.ts";
import { fingerprint } from "../keys/ed25519.ts";

export interface PeerOptions {
  hostSeed: Uint8Array;
  /** Lines that this peer causes. */
  log: Log;
  authorise: Authorise;
  /** ms until it must have authenticated. */
  grace: number;
  /** ms of silence after which it is taken for dead; it is asked for a sign of life before. */
  silence: number;
  /** It has authenticated: `offer` is set. */
  entered: (peer: Peer) => void;
  /** It asks a channel for something. */
  request: (peer: Peer, channel: Channel, request: Request) => void;
}

/** Who has a connection that has left the event loop. */
export interface Owner {
  /** End it at once. */
  stop(reason: string): void;
  /** Resolves when its socket is closed. Never rejects. */
  readonly ended: Promise<unknown>;
}

/** What such an owner gets. */
export interface Released {
  /** Its socket, non-blocking; the owner closes it. */
  fd: number;
  state: ConnectionState;
}

/** Bytes that wait to be sent on a connection before nothing more is read from it, and no channel sends. */
const CONGESTION = 16_384;
/**
 * Bytes that may come on a socket that is not read any more: what the event loop had read already, 512 KiB at
 * most.
 */
const UNREAD_MAX = 1 << 20;
/**
 * The same before it has authenticated: keys and requests with the longest certificate are some 20 kB, and each
 * has to wait for an answer.
 */
const UNREAD_MAX_BEFORE = 65_536;
/** ms for what was written to leave before a tunnel begins. */
const PATIENCE = 10_000;
/** A silent peer is asked so many times. */
const QUESTIONS = 2;

export class Peer {
  /** Set once it has authenticated. */
  offer: SignedOffer | undefined;
  /** "192.0.2.1:50000", for logs. */
  readonly address: string;
  /** Who it is, for the log, once somebody has said so. */
  who: string | undefined;
  /** Resolves once the connection is over, whoever had it last. Never rejects. */
  readonly ended: Promise<void>;
  readonly #connection: ServerConnection;
  readonly #end = Promise.withResolvers<void>();
  readonly #said = new FirstOfKind();
  /** Runs out when it must have authenticated, then whenever it may have to be asked for a sign of life. */
  #timer: Timer;
  #heard = performance.now();
  /** A request that is to be answered before anything more is looked at. */
  #held = false;
  /** It is a socket of the event loop; an owner has it; it is over. */
  #state: "here" | "released" | "ended" = "here";
  #owner: Owner | undefined;
  #running = false;
  /** What came waits for the next turn of this connection. */
  #waitsForTurn = false;
  #scheduled = false;
  /** Writes that have not left yet, and who waits for the last of them. */
  #leaving = 0;
  #allLeft: (() => void) | undefined;

  constructor(
    readonly socket: Socket,
    /** Where it comes from. */
    readonly from: HostPort,
    readonly o: PeerOptions,
  ) {
    const address = formatHostPort(from);
    this.address = address;
    this.ended = this.#end.promise;
    const authorise: Authorise = (user, offer) => {
      try {
        return o.authorise(user, offer);
      } catch (error) {
        o.log.error("cannot tell whose a key is", {
          event: "connection-failed",
          from: address,
          error: messageOf(error),
        });
        return "an error of the server's";
      }
    };
    const wake = (): void => this.#schedule();
    this.#connection = new ServerConnection({ hostSeed: o.hostSeed, authorise, wake });
    this.#timer = setTimeout(() => {
      o.log.debug("connection ended: it did not authenticate in time", { event: "detail", from: address });
      this.#leave("ended");
    }, o.grace);
    socket.on("data", (bytes: Buffer) => this.#hear(bytes));
    socket.on("error", (error) => {
      o.log.debug("connection broke", {
        event: "detail",
        from: address,
        error: safeText(messageOf(error), 200),
      });
      this.#leave("ended");
    });
    socket.on("close", () => this.#leave("ended"));
    this.#run();
  }

  /** A tunnel has the connection. */
  get isReleased(): boolean {
    return this.#state === "released";
  }

  /**
   * End the connection at once, whoever has it.
   * @param reason for the peer and the log; undefined: without a word, as it is one of very many.
   */
  stop(reason?: string): void {
    if (this.#state === "ended") return;
    if (reason !== undefined) {
      this.o.log.info("connection ended", { event: "connection-ended", from: this.address, reason });
    }
    if (this.#state === "released") {
      this.#owner?.stop(reason ?? "");
      return;
    }
    this.#connection.stop(reason);
    this.#lastWords();
    this.#leave("ended");
  }

  /**
   * Call while a request is handled: nothing that comes behind it is looked at until `resume`, or ever if it
   * is released.
   */
  hold(): void {
    this.#held = true;
    this.socket.pause();
  }
  resume(): void {
    this.#held = false;
    this.#run();
  }

  /**
   * Take the connection out of the event loop, with one channel that goes on.
   * @param owner has it from now on.
   * @throws WaltError when it is over, or cannot be taken. What came stays where it was then.
   */
  async release(channel: Channel, owner: Owner): Promise<Released> {
    this.hold();
    const why = this.#connection.prepare(channel);
    if (why !== undefined) throw new WaltError(why);
    await this.#sent();
    const fd = release(this.socket);
    let state: ConnectionState;
    try {
      state = this.#connection.release(channel);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.#leave("released");
    this.#owner = owner;
    void owner.ended.then(() => {
      this.#state = "ended";
      this.#end.resolve();
    });
    return { fd, state };
  }

  /** Write a line into the log, once for each connection and message; further ones are counted. */
  note(message: string, fields: EventFields): void {
    if (this.#said.add(message)) this.o.log.warn(message, fields);
  }

  #hear(bytes: Buffer): void {
    if (this.#state !== "here") return;
    this.#heard = performance.now();
    this.#connection.push(bytes);
    const most = this.offer === undefined ? UNREAD_MAX_BEFORE : UNREAD_MAX;
    if (this.#connection.unread > most) this.stop("it sends on although nothing is read");
    else if (!this.#waitsForTurn) this.#turn();
  }

  /** Look at some of what came, and at the rest once other connections had their turn. */
  #turn(): void {
    this.#waitsForTurn = false;
    this.#connection.turn();
    this.#run();
  }

  /** Look at what came, and send what is to be sent, as far as both go. */
  #run(): void {
    if (this.#running || this.#state !== "here") return;
    this.#running = true;
    try {
      for (let more = true; more && this.#state === "here"; ) {
        const event = this.#held ? undefined : this.#connection.next();
        if (event !== undefined) this.#handle(event);
        else {
          const { stalled } = this.#connection;
          more = this.#send() && stalled && !this.#held;
        }
      }
    } catch (error) {
      // A mistake of ours: it ends this connection, not the server.
      this.o.log.error("a connection failed", {
        event: "connection-failed",
        from: this.address,
        error: messageOf(error),
      });
      this.#leave("ended");
    } finally {
      this.#running = false;
    }
    if (this.#state !== "here" || this.#held) return;
    if (this.#connection.tired && !this.#waitsForTurn) {
      this.#waitsForTurn = true;
      setImmediate(() => this.#turn());
    }
    // Who does not read what it makes us send, or sent more than a turn's work, is not read from either.
    if (this.#congested || this.#waitsForTurn) this.socket.pause();
    else if (this.socket.isPaused()) this.socket.resume();
  }

  /** Send as much as the socket takes. False: it takes no more. */
  #send(): boolean {
    while (!this.#congested && this.#state === "here") {
      const bytes = this.#connection.output();
      if (bytes.length === 0) return true;
      this.#write(bytes);
    }
    return false;
  }

  #write(bytes: Uint8Array): void {
    this.#leaving++;
    this.socket.write(bytes, () => {
      if (--this.#leaving === 0) this.#allLeft?.();
      this.#run(); // it may have waited for this
    });
  }

  get #congested(): boolean {
    return this.socket.writableLength > CONGESTION;
  }

  /** A channel may have something to send: after all that is written in this turn. */
  #schedule(): void {
    if (this.#scheduled || this.#running || this.#state !== "here") return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#run();
    });
  }

  #handle(event: ServerEvent): void {
    const from = this.address;
    switch (event.kind) {
      case "entered":
        this.offer = event.offer;
        clearTimeout(this.#timer);
        this.#watch();
        this.o.entered(this);
        break;
      case "key-refused": {
        const key = event.key === undefined ? undefined : fingerprint(event.key);
        this.note("key refused", {
          event: "key-refused",
          from,
          user: safeText(event.user, 32),
          reason: event.reason,
          key,
        });
        break;
      }
      case "request":
        this.o.request(this, event.channel, event.request);
        break;
      case "refused":
        this.note("refused", { event: "request-refused", who: this.who, from, what: event.what });
        break;
      case "ended":
        this.#lastWords();
        if (event.end.kind === "excess")
          this.note("connection ended", { event: "connection-ended", from, reason: event.end.text });
        else
          this.o.log.debug("connection ended", {
            event: "connection-ended",
            from,
            reason: safeText(event.end.text, 200),
          });
        this.#leave("ended");
    }
  }

  /** What is to be sent at the end, whether anybody reads it or not. */
  #lastWords(): void {
    const bytes = this.#connection.output();
    if (bytes.length > 0 && !this.socket.destroyed) this.#write(bytes);
  }

  /** Ask a peer from which nothing comes for a sign of life, and end one that gives none. */
  #watch(): void {
    const { silence } = this.o;
    const pause = silence / (QUESTIONS + 1);
    const look = (): void => {
      const quiet = performance.now() - this.#heard;
      if (quiet >= silence - 1 && !this.#held) {
        this.stop(`nothing came for ${Math.round(silence)} ms`);
        return;
      }
      if (quiet >= pause - 1 && !this.#held) {
        this.#connection.ask();
        this.#run();
      }
      this.#timer = setTimeout(look, pause - (quiet % pause));
    };
    this.#timer = setTimeout(look, pause);
  }

  /** Everything that was written has left. @throws WaltError when the peer takes nothing, or has gone. */
  async #sent(): Promise<void> {
    while (this.#state === "here" && (!this.#send() || this.#leaving > 0)) {
      const left = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), PATIENCE);
        this.#allLeft = () => {
          clearTimeout(timer);
          resolve(true);
        };
      });
      this.#allLeft = undefined;
      if (!left) throw new WaltError("it takes nothing of what it is sent");
    }
    if (this.#state !== "here") throw new WaltError("the connection ended before its tunnel began");
  }

  /** The event loop has nothing more to do with it. */
  #leave(state: "released" | "ended"): void {
    if (this.#state !== "here") return;
    this.#state = state;
    clearTimeout(this.#timer);
    this.#connection.stop();
    this.socket.destroy();
    this.#allLeft?.();
    for (const [message, count] of this.#said.repeated()) {
      this.o.log.warn(`${message}, again and again`, { event: "repeated", from: this.address, count });
    }
    if (state === "ended") this.#end.resolve();
  }
}
