/** The main thread's side of the pump thread: links between a TAP and a stream are added to it and told of here. */

import { Worker } from "node:worker_threads";
import type { End } from "../end.ts";
import { messageOf, WaltError } from "../errors.ts";
import { allocate, at, EAGAIN, EINTR, errno, failure, libc, type Memory } from "../linux/libc.ts";
import { needLibcrypto } from "../linux/libcrypto.ts";
import { recordPair } from "../linux/socketpair.ts";
import { COUNTERS, type LinkStats, readCounters } from "./counters.ts";
import type { FramingName } from "./framing.ts";
import { FEATURE_ACK, MTU_MAX, MTU_MIN } from "./message.ts";
import {
  encodeOrder,
  LINKS_MAX,
  ORDER_MAX,
  type Order,
  TEXT_MAX,
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
  /** How frames are told apart in the stream; "messages" unless told. */
  framing?: FramingName;
  /** `stream` is the socket of an SSH connection, in this state (`encodeState` of src/ssh/handshake/connection-state.ts). */
  ssh?: Memory;
  /** MiB of that connection after which this end asks for new keys; REKEY_LIMIT of pump-protocol.ts unless told. */
  rekeyLimit?: number;
  /** Feature bits that may be offered to the peer at most; all unless told. */
  features?: number;
}

export interface Link {
  /** Why it ended. Both file descriptors are closed by then. Never rejects. */
  readonly ended: Promise<End>;
  /**
   * The peer's hello came (in the original framing, which has none: at once), and with it the MTU that both ends can do, in bytes.
   * Never rejects: stays pending when the link ends first.
   */
  readonly up: Promise<number>;
  /** End the link: frames stop at once, and the peer is told the text (200 bytes of it) if it listens. Again: does nothing. */
  close(text: string): void;
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
  end: (end: End) => void;
}

/** The pump thread and its links. It does not keep a process alive unless it has a link. */
export class PumpThread {
  /** Resolves when the thread dies of itself; every link ends with it then. Pending for ever when it is stopped. */
  readonly failed: Promise<Error>;
  #fail: (error: Error) => void;
  #exited = Promise.withResolvers<void>();
  #ready = Promise.withResolvers<void>();
  #worker: Worker;
  readonly #orders: [ours: number, theirs: number];
  #stats: Float64Array;
  #links = new Map<number, LinkState>();
  #free: number[] = [];
  #slots = 0;
  #ids = 0;
  /** Orders that the socket had no room for. */
  #backlog: Order[] = [];
  readonly #record = allocate(ORDER_MAX);
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
    this.#orders = recordPair();
    const workerData: ThreadData = { kind: "pump", orders: this.#orders[1], stats: shared };
    try {
      this.#worker = new Worker(thread, { workerData });
    } catch (error) {
      for (const fd of this.#orders) libc.close(fd);
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
    const { tap, stream, mtu, silence, ssh } = options;
    if (this.#state !== "running") throw new WaltError("the tunnel's thread is not running");
    if (!(mtu >= MTU_MIN && mtu <= MTU_MAX)) {
      throw new WaltError(`an MTU of ${mtu} bytes cannot be`, { hint: `${MTU_MIN} to ${MTU_MAX}.` });
    }
    if (!(silence >= 1 && silence <= 3_600_000)) throw new WaltError(`a silence of ${silence} ms cannot be`);
    if (options.guard !== undefined) parseMac(options.guard);
    if (this.#links.size >= LINKS_MAX) throw new WaltError(`there are ${LINKS_MAX} tunnels already`);
    const slot = this.#free.pop() ?? this.#slots++;
    const id = ++this.#ids;
    const ended = Promise.withResolvers<End>();
    const up = Promise.withResolvers<number>();
    let last: LinkStats | undefined;
    this.#stats.fill(0, slot * COUNTERS, (slot + 1) * COUNTERS);
    const end = (why: End): void => {
      last = readCounters(this.#stats, slot * COUNTERS);
      ended.resolve(why);
    };
    if (this.#links.size === 0) this.#worker.ref();
    this.#links.set(id, { slot, tap, stream, ssh, up: up.resolve, end });
    const vnet = options.offload !== undefined;
    const features = (FEATURE_ACK | (options.offload ?? 0)) & (options.features ?? 0xffff);
    const order = {
      id,
      slot,
      tap,
      stream,
      mtu,
      silence: Math.round(silence),
      vnet,
      framing: options.framing ?? "messages",
      features,
      ...(options.guard === undefined ? {} : { guard: options.guard }),
      ...(options.rekeyLimit === undefined ? {} : { rekeyLimit: options.rekeyLimit }),
      ...(ssh === undefined ? {} : { ssh: { address: ssh.address, length: ssh.bytes.length } }),
    };
    this.#send({ kind: "add", ...order });
    return {
      ended: ended.promise,
      up: up.promise,
      close: (text) => {
        if (this.#links.has(id)) this.#send({ kind: "close", id, text: text.slice(0, TEXT_MAX) });
      },
      stats: () => ({ ...(last ?? readCounters(this.#stats, slot * COUNTERS)) }),
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
      this.#forget(event.id, event.end);
    }
  }

  #forget(id: number, end: End): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    link.end(end);
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
      const record = encodeOrder(order);
      this.#record.bytes.set(record);
      const n = libc.write(this.#orders[0], at(this.#record.address), record.length);
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
    const end: End = crashed
      ? { kind: "fault", text: `the tunnel's thread failed: ${messageOf(error)}` }
      : { kind: "stopped", text: "the tunnel's thread is stopping" };
    for (const [id, { tap, stream }] of this.#links) {
      libc.close(tap); // the thread can do it no more
      libc.close(stream);
      this.#forget(id, end);
    }
    for (const fd of this.#orders) libc.close(fd);
    if (crashed) {
      const failed = new WaltError(end.text, { cause: error });
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
