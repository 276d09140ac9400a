/**
 * The pump: one loop around poll(2) that moves the frames of all links of a process, in a thread of its own.
 *
 * - Each turn of the loop lets every link do what is due (`PumpLink.tick`), waits in poll(2) for all file
 *   descriptors together, and lets each link whose descriptors are ready move its frames
 *   (`PumpLink.service`).
 * - A link (link.ts) joins one TAP to one stream. Its `Sender` (send/sender.ts) moves frames from the TAP to
 *   the stream; its `Receiver` (receive/receiver.ts) moves them from the stream to the TAP.
 * - A stream (transport/stream.ts) is a plain socket, or an SSH channel whose packets the thread itself opens
 *   and seals.
 * - The main thread (pump-thread.ts) sends orders to add and close links through a socket that the loop
 *   polls, too. The pump tells the main thread by messages which links are up or have ended, and by shared
 *   memory what they count (pump-protocol.ts).
 * - Only poll(2) blocks. The thread never returns to its JavaScript event loop, so nothing here is
 *   asynchronous.
 */

import type { End } from "../end.ts";
import { messageOf } from "../errors.ts";
import { allocate, at, EAGAIN, EINTR, errno, failure, libc, POLLFD_SIZE, POLLIN } from "../linux/libc.ts";
import { PumpLink } from "./link.ts";
import {
  type AddOrder,
  decodeOrder,
  LINKS_MAX,
  ORDER_MAX,
  type Order,
  type ThreadEvent,
} from "./pump-protocol.ts";

const STOPPING: End = { kind: "stopped", text: "the pump thread is stopping" };
/** The end of a further lane whose tunnel has none any more. */
const GONE: End = { kind: "stopped", text: "the tunnel has ended" };
/** Orders that are read in one turn of the loop, so that they do not hold up the frames. */
const ORDERS_A_ROUND = 32;
/** Longest wait in poll(2), ms. Any value would do: orders wake poll(2), and links say when they are due. */
const WAIT_MAX = 60_000;

export class Pump {
  /** File descriptor of the socket that orders come from. */
  readonly #orders: number;
  /** The shared memory with the counters of all links. */
  readonly #stats: Float64Array;
  readonly #tell: (event: ThreadEvent) => void;
  readonly #links: PumpLink[] = [];
  #stopping = false;
  /** Buffer for one order. */
  readonly #record = allocate(ORDER_MAX);
  /** Array of struct pollfd: first the socket of the orders, then TAP and stream of each link. */
  readonly #polls = allocate(POLLFD_SIZE * (1 + 2 * LINKS_MAX));
  /** The same memory, two words for each: the descriptor, then events | revents << 16 (little-endian). */
  readonly #pollWords = new Int32Array(this.#polls.bytes.buffer);

  /**
   * @param orders file descriptor of the thread's end of the socket for orders, non-blocking. The loop ends
   *   when the other end is closed.
   * @param stats COUNTERS doubles for each of LINKS_MAX links.
   * @param tell sends an event to the main thread.
   */
  constructor(orders: number, stats: SharedArrayBuffer, tell: (event: ThreadEvent) => void) {
    this.#orders = orders;
    this.#stats = new Float64Array(stats);
    this.#tell = tell;
  }

  /**
   * Run the loop. Returns after the order to stop, once every link is over.
   * @throws WaltError when poll(2) itself fails.
   */
  run(): void {
    while (!(this.#stopping && this.#links.length === 0)) {
      const wait = this.#prepare(performance.now());
      const n = libc.poll(at(this.#polls.address), 1 + 2 * this.#links.length, wait);
      if (n < 0) {
        if (errno() === EINTR) continue;
        throw failure("poll the links");
      }
      if (n > 0) this.#serve(performance.now());
    }
  }

  /**
   * Let every link do what is due, and write to `#polls` what to wait for.
   * @returns how long to wait at most, ms.
   */
  #prepare(now: number): number {
    let wait = WAIT_MAX;
    const links = this.#links;
    // Loops with a counter here and below: an iterator would be garbage, and the only one that a turn makes.
    for (let i = 0; i < links.length; i++) {
      const link = links[i];
      if (link === undefined) continue;
      const wasUp = link.up;
      try {
        wait = Math.min(wait, link.tick(now));
      } catch (error) {
        link.stopNow(fault(error));
      }
      this.#announce(link, wasUp);
    }
    this.#sweep();
    const words = this.#pollWords;
    words[0] = this.#stopping ? -1 : this.#orders;
    words[1] = POLLIN;
    let at = 2;
    for (let i = 0; i < links.length; i++) {
      const link = links[i];
      if (link === undefined) continue;
      words[at++] = link.tap;
      words[at++] = link.tapEvents;
      words[at++] = link.stream;
      words[at++] = link.streamEvents;
    }
    return Math.ceil(wait);
  }

  /** Handle what poll(2) reported. */
  #serve(now: number): void {
    const words = this.#pollWords;
    const links = this.#links;
    let at = 2;
    for (let i = 0; i < links.length; i++) {
      const link = links[i];
      if (link === undefined) continue;
      const tap = (words[at + 1] ?? 0) >>> 16;
      const stream = (words[at + 3] ?? 0) >>> 16;
      at += 4;
      if ((tap | stream) === 0) continue;
      const wasUp = link.up;
      try {
        link.service(tap, stream, now);
      } catch (error) {
        link.stopNow(fault(error));
      }
      this.#announce(link, wasUp);
    }
    this.#sweep();
    if ((words[1] ?? 0) >>> 16 !== 0) this.#takeOrders(now);
  }

  /** Tell the main thread if the link has come up. @param wasUp it was up before. */
  #announce(link: PumpLink, wasUp: boolean): void {
    if (link.up && !wasUp) this.#tell({ kind: "up", id: link.id, mtu: link.mtu, lanes: link.lanes });
  }

  /** Forget the links that are over, and tell the main thread. */
  #sweep(): void {
    let kept = 0;
    for (let i = 0; i < this.#links.length; i++) {
      const link = this.#links[i];
      if (link === undefined) continue;
      if (link.over) this.#tell({ kind: "ended", id: link.id, end: link.end ?? STOPPING });
      else this.#links[kept++] = link;
    }
    this.#links.length = kept;
  }

  /** Read the orders that wait, and carry them out. */
  #takeOrders(now: number): void {
    for (let i = 0; i < ORDERS_A_ROUND; i++) {
      const n = libc.read(this.#orders, at(this.#record.address), ORDER_MAX);
      if (n > 0) {
        this.#carryOut(decodeOrder(this.#record.bytes.subarray(0, n)), now);
      } else if (n < 0 && (errno() === EAGAIN || errno() === EINTR)) {
        return;
      } else {
        this.#stop(); // the main thread has closed its end, or the socket failed
        return;
      }
    }
  }

  #carryOut(order: Order, now: number): void {
    if (order.kind === "add") {
      this.#add(order, now);
    } else if (order.kind === "stop") {
      this.#stop();
    } else if (order.kind === "stop-links") {
      for (const link of this.#links) link.stopKeepingTap({ kind: "stopped", text: order.text });
      this.#tell({ kind: "links-stopping" });
    } else {
      const link = this.#links.find(({ id }) => id === order.id);
      if (order.kind === "message") link?.send(order.payload);
      else link?.stop({ kind: "stopped", text: order.text });
    }
  }

  #add(order: AddOrder, now: number): void {
    const refuse = (end: End): void => {
      for (const fd of [order.tap, order.stream]) if (fd >= 0) libc.close(fd);
      this.#tell({ kind: "ended", id: order.id, end });
    };
    const first = this.#links.find(({ id }) => id === order.first);
    if (order.first !== undefined && first?.open !== true) {
      refuse(GONE);
      return;
    }
    let link: PumpLink;
    try {
      link = new PumpLink(order, this.#stats, now, this.#tell, first);
    } catch (error) {
      refuse(fault(error));
      return;
    }
    if (order.ssh !== undefined) this.#tell({ kind: "state-read", id: link.id });
    this.#links.push(link);
    this.#announce(link, false);
    if (this.#stopping) link.stop(STOPPING);
  }

  #stop(): void {
    this.#stopping = true;
    for (const link of this.#links) link.stop(STOPPING);
  }
}

/** The end of a link in which this program made a mistake. Only that link ends, not the thread. */
function fault(error: unknown): End {
  return { kind: "fault", text: `internal error in the pump thread: ${messageOf(error)}` };
}
