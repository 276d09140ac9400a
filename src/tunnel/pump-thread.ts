/** The main thread's side of the pump thread: links between a TAP and a stream are added to it and told of here. */

import { Worker } from "node:worker_threads";
import { messageOf, WaltError } from "../errors.ts";
import { allocate, at, EAGAIN, EINTR, errno, failure, libc, type Memory } from "../linux/libc.ts";
import { needLibcrypto } from "../linux/libcrypto.ts";
import { recordPair } from "../linux/socketpair.ts";
import { FEATURE_ACK, MTU_MAX, MTU_MIN } from "./message.ts";
import {
  COUNTER,
  COUNTERS,
  encodeOrder,
  LINKS_MAX,
  type Order,
  RECORD,
  type ThreadData,
  type ThreadEvent,
} from "./pump-protocol.ts";
import { parseMac } from "./receive/guard.ts";

export interface LinkOptions {
  /** File descriptor of the TAP, non-blocking; the link owns it and closes it. */
  tap: number;
  /** File descriptor of the byte stream to the peer, a non-blocking socket; the link owns it and closes it. */
  stream: number;
  /** The largest MTU that this end can do, in bytes, told to the peer. */
  mtu: number;
  /** A peer that takes nothing, or (not in the original framing) sends nothing, for so many ms is taken for dead. */
  silence: number;
  /**
   * Only on the server: the one source MAC that frames from the stream may have; DHCP-server packets and router
   * advertisements from it are dropped.
   */
  guard?: string;
  /** The TAP's `offload`: what it takes with virtio-net headers. Undefined: a TAP for plain frames. */
  offload?: number | undefined;
  /** Plain frames, each behind its length, as WalT's own VPN speaks; else the messages of message.ts. */
  original?: boolean;
  /** `stream` is the socket of an SSH connection, in this state (`encodeState` of src/ssh/handshake/connection-state.ts). */
  ssh?: Memory;
  /** MiB of that connection after which this end asks for new keys; REKEY_LIMIT of control.ts unless told. */
  rekeyLimit?: number;
  /** Feature bits that may be offered to the peer at most; all unless told. */
  features?: number;
}

/** Counters since the link began. In = from the stream to the TAP. */
export interface LinkStats {
  framesIn: number;
  framesOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Frames lost for want of room, dropped to slow a flow down, or because the TAP is down. */
  dropped: number;
  /** Frames from the peer that the guard refused. */
  refused: number;
  /** Round trip time in ms, 0 = unknown. */
  rtt: number;
  /** Frames marked "congestion experienced" instead of dropped. */
  marked: number;
  /** Bytes that wait in the queue towards the peer, and how long frames wait there, ms. */
  queued: number;
  queueDelay: number;
  /** Bytes that may be under way to the peer and those that are; 0 with a peer that does not acknowledge. */
  window: number;
  inFlight: number;
  /** What the peer gets, bytes per second, and the least round trip time, ms; 0 = unknown. */
  rate: number;
  minRtt: number;
  /** PINGs that were answered or given up, those of them that were late or not answered (pings.ts), and their share lately, 0 to 1. */
  pings: number;
  late: number;
  loss: number;
  /** How often the connection's keys were changed. */
  rekeys: number;
}

export interface Link {
  /** The reason in words, safe for a terminal. Both file descriptors are closed by then. Never rejects. */
  readonly ended: Promise<string>;
  /**
   * The peer's hello came (in the original framing, which has none: at once), and with it the MTU that both ends can do, in bytes.
   * Never rejects: stays pending when the link ends first.
   */
  readonly up: Promise<number>;
  /** End the link: frames stop at once, the peer is told the reason (200 bytes) if it listens. Again: does nothing. */
  close(reason: string): void;
  stats(): LinkStats;
}

/** ms until a full record socket is tried again. */
const RETRY = 2;

interface LinkState {
  slot: number;
  tap: number;
  stream: number;
  /** Held until the thread has read it. */
  ssh: Memory | undefined;
  up: (mtu: number) => void;
  end: (reason: string) => void;
}

/** The pump thread and its links. It does not keep a process alive unless it has a link. */
export class PumpThread {
  /** Resolves when the thread dies of itself; every link ends with the reason then. Pending for ever when it is stopped. */
  readonly failed: Promise<Error>;
  #fail: (error: Error) => void;
  #exited = Promise.withResolvers<void>();
  #ready = Promise.withResolvers<void>();
  #worker: Worker;
  #control: [ours: number, theirs: number];
  #stats: Float64Array;
  #links = new Map<number, LinkState>();
  #free: number[] = [];
  #slots = 0;
  #ids = 0;
  /** Orders that the socket had no room for. */
  #backlog: Order[] = [];
  #record = allocate(RECORD);
  #error: Error | undefined;
  #state: "running" | "stopping" | "over" = "running";

  /**
   * Start the thread.
   * @param thread what it runs, for tests.
   * @throws WaltError when it cannot be started.
   */
  static async start(thread: string | URL = threadUrl()): Promise<PumpThread> {
    needLibcrypto();
    const pumps = new PumpThread(thread);
    await pumps.#ready.promise;
    return pumps;
  }

  private constructor(thread: string | URL) {
    const failed = Promise.withResolvers<Error>();
    this.failed = failed.promise;
    this.#fail = failed.resolve;
    const shared = new SharedArrayBuffer(LINKS_MAX * COUNTERS * Float64Array.BYTES_PER_ELEMENT);
    this.#stats = new Float64Array(shared);
    this.#control = recordPair();
    const workerData: ThreadData = { kind: "pump", control: this.#control[1], stats: shared };
    try {
      this.#worker = new Worker(thread, { workerData });
    } catch (error) {
      for (const fd of this.#control) libc.close(fd);
      throw error;
    }
    this.#worker.on("message", (event: ThreadEvent) => this.#hear(event));
    this.#worker.on("error", (error: unknown) => {
      this.#error = error instanceof Error ? error : new Error(String(error));
    });
    this.#worker.on("exit", () => this.#exit());
  }

  /**
   * Join a TAP to a stream. The link owns both file descriptors from now on, also when this throws.
   * @throws WaltError when the guard is no MAC address, the MTU cannot be, or the thread is over.
   */
  add(options: LinkOptions): Link {
    try {
      return this.#add(options);
    } catch (error) {
      libc.close(options.tap);
      libc.close(options.stream);
      throw error;
    }
  }

  /** End all links and the thread. */
  async stop(): Promise<void> {
    if (this.#state === "running") {
      this.#state = "stopping";
      this.#send({ kind: "stop" });
      this.#worker.ref();
    }
    await this.#exited.promise;
  }

  #add(options: LinkOptions): Link {
    const { tap, stream, mtu, silence } = options;
    if (this.#state !== "running") throw new WaltError("the tunnel's thread is not running");
    if (!(mtu >= MTU_MIN && mtu <= MTU_MAX)) {
      throw new WaltError(`an MTU of ${mtu} bytes cannot be`, { hint: `${MTU_MIN} to ${MTU_MAX}.` });
    }
    if (!(silence >= 1 && silence <= 3_600_000)) throw new WaltError(`a silence of ${silence} ms cannot be`);
    const guard = options.guard === undefined ? undefined : parseMac(options.guard);
    if (this.#links.size >= LINKS_MAX) throw new WaltError(`there are ${LINKS_MAX} tunnels already`);
    const slot = this.#free.pop() ?? this.#slots++;
    const id = ++this.#ids;
    const ended = Promise.withResolvers<string>();
    const up = Promise.withResolvers<number>();
    let last: LinkStats | undefined;
    this.#stats.fill(0, slot * COUNTERS, (slot + 1) * COUNTERS);
    const end = (reason: string): void => {
      last = this.#read(slot);
      ended.resolve(reason);
    };
    if (this.#links.size === 0) this.#worker.ref();
    this.#links.set(id, { slot, tap, stream, ssh: options.ssh, up: up.resolve, end });
    const vnet = options.offload !== undefined;
    const original = options.original ?? false;
    const features = (FEATURE_ACK | (options.offload ?? 0)) & (options.features ?? 0xffff);
    const order = {
      id,
      slot,
      tap,
      stream,
      mtu,
      silence: Math.round(silence),
      guard,
      vnet,
      original,
      features,
      ...(options.rekeyLimit === undefined ? {} : { rekeyLimit: options.rekeyLimit }),
      ssh: options.ssh && { address: options.ssh.address, length: options.ssh.bytes.length },
    };
    this.#send({ kind: "add", ...order });
    return {
      ended: ended.promise,
      up: up.promise,
      close: (reason) => {
        if (this.#links.has(id)) this.#send({ kind: "close", id, reason });
      },
      stats: () => ({ ...(last ?? this.#read(slot)) }),
    };
  }

  #read(slot: number): LinkStats {
    const value = (counter: number): number => this.#stats[slot * COUNTERS + counter] ?? 0;
    return {
      framesIn: value(COUNTER.framesIn),
      framesOut: value(COUNTER.framesOut),
      bytesIn: value(COUNTER.bytesIn),
      bytesOut: value(COUNTER.bytesOut),
      dropped: value(COUNTER.dropped),
      refused: value(COUNTER.refused),
      rtt: value(COUNTER.rtt),
      marked: value(COUNTER.marked),
      queued: value(COUNTER.queued),
      queueDelay: value(COUNTER.queueDelay),
      window: value(COUNTER.window),
      inFlight: value(COUNTER.inFlight),
      rate: value(COUNTER.rate) * 1000,
      minRtt: value(COUNTER.minRtt),
      pings: value(COUNTER.pings),
      late: value(COUNTER.late),
      loss: value(COUNTER.loss),
      rekeys: value(COUNTER.rekeys),
    };
  }

  #hear(event: ThreadEvent): void {
    if (event.kind === "ready") {
      this.#worker.unref();
      this.#ready.resolve();
    } else if (event.kind === "read") {
      const link = this.#links.get(event.id);
      link?.ssh?.bytes.fill(0); // there are keys in it
      if (link !== undefined) link.ssh = undefined;
    } else if (event.kind === "up") {
      this.#links.get(event.id)?.up(event.mtu);
    } else {
      this.#forget(event.id, event.reason);
    }
  }

  #forget(id: number, reason: string): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    link.end(reason);
    this.#free.push(link.slot);
    if (this.#links.size === 0 && this.#state === "running") this.#worker.unref();
  }

  #send(order: Order): void {
    this.#backlog.push(order);
    if (this.#backlog.length === 1) this.#flush();
  }

  /** The thread empties its end in every round, so a full socket is a matter of moments. */
  #flush(): void {
    while (this.#state !== "over") {
      const order = this.#backlog[0];
      if (order === undefined) return;
      encodeOrder(order, this.#record.bytes);
      const n = libc.write(this.#control[0], at(this.#record.address), RECORD);
      if (n < 0) {
        const code = errno();
        if (code === EINTR) continue;
        if (code === EAGAIN) setTimeout(() => this.#flush(), RETRY);
        else this.#error ??= failure("speak to the tunnel's thread", code);
        return;
      }
      this.#backlog.shift();
    }
  }

  /** The thread is over: of itself after a stop, or because it crashed. */
  #exit(): void {
    const crashed = this.#state === "running";
    this.#state = "over";
    const error = this.#error ?? new Error("the tunnel's thread ended");
    const reason = crashed
      ? `the tunnel's thread failed: ${messageOf(error)}`
      : "the tunnel's thread is stopping";
    for (const [id, { tap, stream }] of this.#links) {
      libc.close(tap); // the thread can do it no more
      libc.close(stream);
      this.#forget(id, reason);
    }
    for (const fd of this.#control) libc.close(fd);
    if (crashed) {
      const failed = new WaltError(reason, { cause: error });
      this.#ready.reject(failed);
      this.#ready.promise.catch(() => {});
      this.#fail(failed);
    }
    this.#exited.resolve();
  }
}

/**
 * What the thread runs. In a compiled binary only the binary itself can be found, whose main.ts imports thread.ts first
 * thing when it is not the main thread; otherwise it is the file next to this one.
 */
function threadUrl(): string | URL {
  return import.meta.url.includes("/$bunfs/") ? Bun.main : new URL("./pump-main.ts", import.meta.url);
}
