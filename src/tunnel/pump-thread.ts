/**
 * The main thread's side of the pump thread: start and stop the thread, add links to it, and learn what
 * becomes of them.
 */

import { Worker } from "node:worker_threads";
import type { End } from "../end.ts";
import { messageOf, WaltError } from "../errors.ts";
import { allocate, at, EAGAIN, EINTR, errno, failure, libc, type Memory } from "../linux/libc.ts";
import { libcrypto } from "../linux/libcrypto.ts";
import { recordPair } from "../linux/socketpair.ts";
import { COUNTERS, type LinkStats, readCounters, TAKEN } from "./counters.ts";
import type { FramingName } from "./framing.ts";
import { FEATURE_ACK, FEATURE_LANES, MTU_MAX, MTU_MIN } from "./message.ts";
import {
  encodeOrder,
  LINKS_MAX,
  ORDER_MAX,
  type Order,
  TEXT_MAX,
  type ThreadData,
  type ThreadEvent,
} from "./pump-protocol.ts";
import { type GuardRules, parseGuard } from "./receive/guard.ts";
import { MESSAGE_COST, MESSAGE_MAX } from "./send/channel-messages.ts";

/** A further lane of a tunnel. */
export interface LaneOptions {
  /**
   * File descriptor of the byte stream to the peer, a non-blocking socket; the link owns it and closes it.
   */
  stream: number;
  /**
   * Set if `stream` is the socket of an SSH connection: the state of that connection, as `encodeState` wrote
   * it (src/ssh/handshake/connection-state.ts). It has keys in it, and is overwritten once the thread has
   * read it.
   */
  ssh?: Memory;
  /** MiB of that connection after which this end asks for new keys; REKEY_LIMIT by default. */
  rekeyLimit?: number;
}

/** How to join a TAP to a stream. */
export interface LinkOptions extends LaneOptions {
  /** File descriptor of the TAP, non-blocking; the link owns it and closes it. */
  tap: number;
  /** The largest MTU that this end can do, bytes. The peer is told. */
  mtu: number;
  /**
   * A peer that takes nothing for this many ms counts as dead. So does one that sends nothing. In the
   * original framing an idle peer sends nothing: there the stream decides whether it is silent.
   */
  silence: number;
  /**
   * Only on the server: what frames from the stream may be. The guard also refuses frames of DHCP servers and
   * of routers.
   */
  guard?: GuardRules;
  /**
   * The offloads that the TAP takes, TUN_F_ bits of linux/tap.ts; its frames have virtio-net headers.
   * Undefined: the TAP has plain frames.
   */
  offload?: number | undefined;
  /** How frames are told apart in the stream; `messages` by default. */
  framing?: FramingName;
  /**
   * Makes the owner of the other channels of the SSH connection. Undefined: the peer gets no other channel.
   */
  channels?: (out: MessageOutput) => MessageInput;
  /** Which features may be offered to the peer, FEATURE_ bits of message.ts; all by default. For tests. */
  features?: number;
}

/** Where messages of a connection's other channels (RFC 4254) go: to the peer. */
export interface MessageOutput {
  /** Bytes that were sent and have not left the pump's queue, each message with its cost. */
  readonly waiting: number;
  /** Send a message of at most MESSAGE_MAX bytes. After the link's end: does nothing. */
  send(payload: Uint8Array): void;
}

/** Who owns the other channels of a link's connection. */
export interface MessageInput {
  /** Take a message of the peer's. @throws Error when it may not come: the link ends then. */
  take(payload: Uint8Array): void;
  /** Less waits than before. */
  left(): void;
  /** The link has ended. */
  stop(): void;
}

/** A lane as the main thread sees it. */
export interface Lane {
  /** Resolves with why the link ended, once both file descriptors are closed. Never rejects. */
  readonly ended: Promise<End>;
  /**
   * Resolves when the peer's HELLO has come, with the MTU that both ends agreed on, bytes. In the original
   * framing, which has no HELLO, it resolves at once. If the link ends first, it stays pending. Never
   * rejects.
   */
  readonly up: Promise<number>;
  /**
   * End the link: frames stop at once. The peer is told the first 200 bytes of `text`, if it still reads.
   * Does nothing if the link has ended.
   */
  stop(text: string): void;
  /** Its counters. After the end, those at the end. */
  stats(): LinkStats;
}

/** A link as the main thread sees it: the first lane of a tunnel, with the counters of the whole tunnel. */
export interface Link extends Lane {
  /** It is up, and the peer knows lanes. */
  readonly hasLanes: boolean;
  /**
   * Add a further lane, which ends with this link. The peer has to know lanes (`hasLanes`). The file descriptor belongs to the lane from now on; if this throws, it is closed.
   * @throws as `PumpThread.add`.
   */
  addLane(options: LaneOptions): Lane;
}

/** ms until an order is written again for which the socket had no room. */
const RETRY = 2;
/** The longest `silence`, ms: one hour. */
const SILENCE_MAX = 3_600_000;

/** What the main thread keeps for a link that has not ended. */
interface LinkRecord {
  /** See `AddOrder.slot`. */
  slot: number;
  /** The descriptors, in case the thread cannot close them any more; -1 = none. */
  tap: number;
  stream: number;
  /** Keeps the memory until the thread has read it. */
  ssh: Memory | undefined;
  /** Owner of the other channels, and what waits of their messages. */
  channels: MessageInput | undefined;
  waiting: number;
  /** The peer knows lanes. */
  lanes: boolean;
  /** Resolves `Link.up`. */
  up: (mtu: number) => void;
  /** Resolves `Link.ended`. */
  end: (end: End) => void;
}

/** The pump thread and its links. It keeps the process alive only while it has a link. */
export class PumpThread {
  /** Resolves when the thread dies by itself, and all links end. Stays pending if the thread is stopped. */
  readonly failed: Promise<Error>;
  #fail: (error: Error) => void;
  /** Resolves when the thread is over, for whatever reason. */
  readonly #exited = Promise.withResolvers<void>();
  /** Resolves when the thread has started. */
  readonly #ready = Promise.withResolvers<void>();
  readonly #worker: Worker;
  /** The two ends of the socket for orders. */
  readonly #orders: [ours: number, theirs: number];
  /** The shared memory with the counters of all links. */
  readonly #stats: Float64Array;
  /** The links that have not ended, by their numbers. */
  readonly #links = new Map<number, LinkRecord>();
  /** Slots that were used before and are free. */
  readonly #freeSlots: number[] = [];
  /** How many slots were ever used. */
  #slotCount = 0;
  /** Number of the newest link. */
  #lastId = 0;
  /** Orders that are not written yet; more than one only while the socket has no room. */
  readonly #backlog: Order[] = [];
  /** Those who wait for the answer to `stop-links`, the oldest first. */
  readonly #stopping: (() => void)[] = [];
  /** Buffer for one order. */
  readonly #record = allocate(ORDER_MAX);
  /** Why the thread died, as far as it is known. */
  #error: Error | undefined;
  #state: "running" | "stopping" | "over" = "running";

  /**
   * Start the thread.
   * @param thread the file that it runs, for tests.
   * @throws WaltError when there is no libcrypto, or the thread cannot be started.
   */
  static async start(thread: string | URL = threadUrl()): Promise<PumpThread> {
    libcrypto(); // that there is none is told here, before it is needed
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
    this.#worker.on("message", (event: ThreadEvent) => this.#onEvent(event));
    this.#worker.on("error", (error: unknown) => {
      this.#error = error instanceof Error ? error : new Error(String(error));
    });
    this.#worker.on("exit", () => this.#exit());
  }

  /**
   * Join a TAP to a stream. Both file descriptors belong to the link from now on. If this throws, they are
   * closed.
   * @throws WaltError when an option is out of its bounds, there are too many links, or the thread is not
   *   running.
   */
  add(options: LinkOptions): Link {
    try {
      const { id, lane } = this.#add(options);
      const { mtu, silence, offload, features } = options;
      const shared = { tap: -1, mtu, silence, offload, ...(features === undefined ? {} : { features }) };
      const links = this.#links;
      return {
        ...lane,
        get hasLanes() {
          return links.get(id)?.lanes ?? false;
        },
        addLane: (further) => this.#addLane({ ...shared, ...further }, id),
      };
    } catch (error) {
      libc.close(options.tap);
      libc.close(options.stream);
      throw error;
    }
  }

  #addLane(options: LinkOptions, first: number): Lane {
    try {
      return this.#add(options, first).lane;
    } catch (error) {
      libc.close(options.stream);
      throw error;
    }
  }

  /**
   * End all links; the peers are told the first 200 bytes of `text`. Resolves when no link uses its TAP any
   * more; each is closed when its link is over.
   */
  async stopLinks(text: string): Promise<void> {
    if (this.#state !== "running" || this.#links.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#stopping.push(resolve);
    this.#send({ kind: "stop-links", text: text.slice(0, TEXT_MAX) });
    await Promise.race([promise, this.#exited.promise]);
  }

  /** End all links and the thread. Resolves when the thread is over. */
  async stop(): Promise<void> {
    if (this.#state === "running") {
      this.#state = "stopping";
      this.#send({ kind: "stop" });
      this.#worker.ref();
    }
    await this.#exited.promise;
  }

  /** @param first the number of the tunnel's first lane, if this is a further one. */
  #add(options: LinkOptions, first?: number): { id: number; lane: Lane } {
    const { tap, stream, mtu, silence, ssh } = options;
    if (this.#state !== "running")
      throw new WaltError("the pump thread is not running: no tunnel can be added");
    if (!(mtu >= MTU_MIN && mtu <= MTU_MAX)) {
      throw new WaltError(`the MTU of the tunnel is ${mtu} bytes`, {
        hint: `It must be ${MTU_MIN} to ${MTU_MAX} bytes.`,
      });
    }
    if (!(silence >= 1 && silence <= SILENCE_MAX)) {
      throw new WaltError(`the silence of the tunnel is ${silence} ms`, {
        hint: `It must be 1 to ${SILENCE_MAX} ms.`,
      });
    }
    if (options.guard !== undefined) parseGuard(options.guard);
    if (this.#links.size >= LINKS_MAX) {
      throw new WaltError(`there are ${LINKS_MAX} tunnels already, as many as one process can have`);
    }
    const slot = this.#freeSlots.pop() ?? this.#slotCount++;
    const id = ++this.#lastId;
    const ended = Promise.withResolvers<End>();
    const up = Promise.withResolvers<number>();
    let last: LinkStats | undefined;
    this.#stats.fill(0, slot * COUNTERS, (slot + 1) * COUNTERS);
    const end = (why: End): void => {
      last = readCounters(this.#stats, slot * COUNTERS);
      ended.resolve(why);
    };
    if (this.#links.size === 0) this.#worker.ref();
    const record: LinkRecord = {
      ...{ slot, tap, stream, ssh, end, up: up.resolve },
      channels: undefined,
      waiting: 0,
      lanes: false,
    };
    record.channels = options.channels?.(this.#outputOf(id, record));
    this.#links.set(id, record);
    const vnet = options.offload !== undefined;
    const features = (FEATURE_ACK | FEATURE_LANES | (options.offload ?? 0)) & (options.features ?? 0xffff);
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
      ...(first === undefined ? {} : { first }),
      ...(options.guard === undefined ? {} : { guard: options.guard }),
      ...(options.rekeyLimit === undefined ? {} : { rekeyLimit: options.rekeyLimit }),
      ...(ssh === undefined ? {} : { ssh: { address: ssh.address, length: ssh.bytes.length } }),
      ...(options.channels === undefined ? {} : { channels: true }),
    };
    this.#send({ kind: "add", ...order });
    const lane: Lane = {
      ended: ended.promise,
      up: up.promise,
      stop: (text) => {
        if (this.#links.has(id)) this.#send({ kind: "stop-link", id, text: text.slice(0, TEXT_MAX) });
      },
      stats: () => ({ ...(last ?? readCounters(this.#stats, slot * COUNTERS)) }),
    };
    return { id, lane };
  }

  /** Handle an event of the thread. */
  #onEvent(event: ThreadEvent): void {
    if (event.kind === "ready") {
      this.#worker.unref();
      this.#ready.resolve();
    } else if (event.kind === "state-read") {
      const link = this.#links.get(event.id);
      link?.ssh?.bytes.fill(0); // it has keys in it
      if (link !== undefined) link.ssh = undefined;
    } else if (event.kind === "up") {
      const link = this.#links.get(event.id);
      if (link !== undefined) link.lanes = event.lanes;
      link?.up(event.mtu);
    } else if (event.kind === "links-stopping") {
      this.#stopping.shift()?.();
    } else if (event.kind === "message") {
      this.#pass(event.id, event.payload);
    } else if (event.kind === "messages-left") {
      const link = this.#links.get(event.id);
      if (link === undefined) return;
      link.waiting -= event.bytes;
      link.channels?.left();
    } else {
      this.#forget(event.id, event.end);
    }
  }

  #outputOf(id: number, link: LinkRecord): MessageOutput {
    return {
      get waiting() {
        return link.waiting;
      },
      send: (payload) => {
        if (payload.length > MESSAGE_MAX) throw new Error(`a message of ${payload.length} bytes`);
        if (this.#links.get(id) !== link) return;
        link.waiting += payload.length + MESSAGE_COST;
        this.#send({ kind: "message", id, payload });
      },
    };
  }

  /** Give a message of another channel to its owner, and tell the thread that it was taken. */
  #pass(id: number, payload: Uint8Array): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    try {
      link.channels?.take(payload);
    } catch (error) {
      this.#send({ kind: "stop-link", id, text: messageOf(error).slice(0, TEXT_MAX) });
    }
    const at = link.slot * COUNTERS + TAKEN;
    this.#stats[at] = (this.#stats[at] ?? 0) + payload.length + MESSAGE_COST;
  }

  /** A link has ended: tell its owner, and free its slot. */
  #forget(id: number, end: End): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    link.ssh?.bytes.fill(0); // a link that was refused has not read its keys
    link.channels?.stop();
    link.end(end);
    this.#freeSlots.push(link.slot);
    if (this.#links.size === 0 && this.#state === "running") this.#worker.unref();
  }

  /** Send an order to the thread. It never waits: what the socket has no room for is sent later. */
  #send(order: Order): void {
    this.#backlog.push(order);
    if (this.#backlog.length === 1) this.#flush();
  }

  /**
   * Write the orders of `#backlog`. If the socket is full, try again after RETRY ms: the thread reads orders
   * in every turn of its loop, so there will be room soon.
   */
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
        else this.#error ??= failure("write an order to the pump thread", code);
        return;
      }
      this.#backlog.shift();
    }
  }

  /** The thread is over: after a stop, or because it crashed. */
  #exit(): void {
    const crashed = this.#state === "running";
    this.#state = "over";
    const error = this.#error ?? new Error("it ended without an error");
    const end: End = crashed
      ? { kind: "fault", text: `the pump thread failed: ${messageOf(error)}` }
      : { kind: "stopped", text: "the pump thread is stopping" };
    for (const [id, { tap, stream }] of this.#links) {
      // The thread cannot do it any more.
      if (tap >= 0) libc.close(tap);
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
 * The file that the thread runs: pump-main.ts. A compiled binary has no file but itself: there the thread
 * runs main.ts, which imports pump-main.ts and nothing else if it is not on the main thread.
 */
function threadUrl(): string | URL {
  return import.meta.url.includes("/$bunfs/") ? Bun.main : new URL("./pump-main.ts", import.meta.url);
}
