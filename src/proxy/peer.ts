/** One connection of the relay: what waits to be sent on it, what it holds in memory, and its end. */

import type { Socket } from "node:net";
import type { Connection, ServerChannel } from "ssh2";
import type { GoodOffer } from "../ssh/handshake/authentication.ts";
import type { ConnectionLog } from "./bounded-log.ts";
import type { Holder, MemoryBudget } from "./memory-budget.ts";
import { Ssh2Guard } from "./ssh2-guard.ts";

/** Bytes that wait to be sent on a connection before whatever feeds it pauses. */
const CONGESTION = 256 * 1024;
/**
 * Bytes that wait to be sent before nothing more is read from the client either: as all else has paused by
 * then, they are answers that it causes itself.
 */
const STUCK = 1024 * 1024;

export class Peer implements Holder {
  /** Set once it has authenticated. */
  offer: GoodOffer | undefined;
  readonly guard: Ssh2Guard;
  readonly #waiting: (() => void)[] = [];
  /** Channels that we write to. */
  readonly #channels = new Set<ServerChannel>();
  #corked = false;
  #stopped = false;

  constructor(
    readonly client: Connection,
    readonly socket: Socket,
    /** Whose connection it is, by its address. */
    readonly source: string,
    readonly log: ConnectionLog,
    private readonly memory: MemoryBudget,
  ) {
    this.guard = new Ssh2Guard(client, (reason) => this.stop(reason));
    socket.prependListener("data", () => this.cork());
    socket.on("drain", () => this.#clear());
    client.on("handshake", () => this.#clear());
    socket.once("close", () => {
      this.#stopped = true;
      memory.update(this);
    });
  }

  /** Bytes in memory: what came and was not passed on yet, and what waits to be sent. */
  get held(): number {
    if (this.#stopped) return 0;
    let bytes = this.guard.held + this.socket.writableLength;
    for (const channel of this.#channels) bytes += channel.writableLength;
    return bytes;
  }

  /** Whether so much waits to be sent that whoever feeds this connection should pause. */
  get congested(): boolean {
    return this.socket.writableLength > CONGESTION || this.guard.exchangingKeys;
  }

  /** Call back once the connection is not congested: at once if it is not now, never if it ends first. */
  whenClear(then: () => void): void {
    if (this.congested) this.#waiting.push(then);
    else then();
  }

  /** Count what waits on this channel, until it is closed. */
  watch(channel: ServerChannel): void {
    this.#channels.add(channel);
    channel.once("close", () => this.#channels.delete(channel));
  }

  /**
   * Call before anything is written to a channel, or comes in on it: all that is written in this turn of the
   * event loop goes out in one system call (ssh2 itself makes three calls per packet), and then the
   * connection's memory is counted.
   */
  cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.socket.cork();
    setImmediate(() => {
      this.#corked = false;
      this.socket.uncork();
      this.memory.update(this);
      if (this.socket.writableLength <= STUCK || this.socket.isPaused()) return;
      this.socket.pause();
      this.whenClear(() => this.socket.resume());
    });
  }

  /** End the connection at once. */
  stop(reason: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.log.info("connection ended", { event: "connection-ended", reason });
    this.socket.destroy();
    this.memory.update(this);
  }

  exceeded(): void {
    this.stop("all connections together hold too much in memory, and it holds most");
  }

  #clear(): void {
    if (!this.congested) for (const then of this.#waiting.splice(0)) then();
  }
}
