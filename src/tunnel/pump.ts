/** The pump: one synchronous poll(2) loop that moves the frames of all links of a process. It never waits elsewhere. */

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

const STOPPING: End = { kind: "stopped", text: "the tunnel's thread is stopping" };
/** Orders taken in one round. */
const ORDERS_A_ROUND = 32;
/** Longest wait in ms; with nothing to do nothing else wakes us, and nothing needs to. */
const WAIT_MAX = 60_000;

export class Pump {
  readonly #orders: number;
  #stats: Float64Array;
  #tell: (event: ThreadEvent) => void;
  #links: PumpLink[] = [];
  #stopping = false;
  readonly #record = allocate(ORDER_MAX);
  /** struct pollfd as two 32-bit numbers: the file descriptor, then events | revents << 16 (little-endian). */
  #polls = allocate(POLLFD_SIZE * (1 + 2 * LINKS_MAX));
  #pollWords = new Int32Array(this.#polls.bytes.buffer);

  /** @param orders the thread's end of the record socket, non-blocking; the loop ends when the other end is closed. */
  constructor(orders: number, stats: SharedArrayBuffer, tell: (event: ThreadEvent) => void) {
    this.#orders = orders;
    this.#stats = new Float64Array(stats);
    this.#tell = tell;
  }

  /** Returns after the order to stop, once every link has ended. @throws WaltError when poll(2) itself fails. */
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

  /** Let time pass for every link, and say what to wait for. Returns the ms to wait at most. */
  #prepare(now: number): number {
    let wait = WAIT_MAX;
    const links = this.#links;
    // Counted loops here and below: an iterator for each turn would be the only garbage that the thread makes.
    for (let i = 0; i < links.length; i++) {
      const link = links[i];
      if (link === undefined) continue;
      const wasUp = link.up;
      try {
        wait = Math.min(wait, link.tick(now));
      } catch (error) {
        link.lost(fault(error));
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
        link.lost(fault(error));
      }
      this.#announce(link, wasUp);
    }
    this.#sweep();
    if ((words[1] ?? 0) >>> 16 !== 0) this.#takeOrders(now);
  }

  #announce(link: PumpLink, wasUp: boolean): void {
    if (link.up && !wasUp) this.#tell({ kind: "up", id: link.id, mtu: link.mtu });
  }

  /** Forget the links that are over, and tell of them. */
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

  #takeOrders(now: number): void {
    for (let i = 0; i < ORDERS_A_ROUND; i++) {
      const n = libc.read(this.#orders, at(this.#record.address), ORDER_MAX);
      if (n > 0) {
        this.#obey(decodeOrder(this.#record.bytes.subarray(0, n)), now);
      } else if (n < 0 && (errno() === EAGAIN || errno() === EINTR)) {
        return;
      } else {
        this.#stop(); // the main thread is gone
        return;
      }
    }
  }

  #obey(order: Order, now: number): void {
    if (order.kind === "add") this.#add(order, now);
    else if (order.kind === "stop") this.#stop();
    else this.#links.find((link) => link.id === order.id)?.close({ kind: "stopped", text: order.text });
  }

  #add(order: AddOrder, now: number): void {
    let link: PumpLink;
    try {
      link = new PumpLink(order, this.#stats, now);
    } catch (error) {
      for (const fd of [order.tap, order.stream]) libc.close(fd);
      this.#tell({ kind: "ended", id: order.id, end: fault(error) });
      return;
    }
    if (order.ssh !== undefined) this.#tell({ kind: "read", id: link.id });
    this.#links.push(link);
    this.#announce(link, false);
    if (this.#stopping) link.close(STOPPING);
  }

  #stop(): void {
    this.#stopping = true;
    for (const link of this.#links) link.close(STOPPING);
  }
}

/** A mistake of ours in one link ends that link, not the thread. */
function fault(error: unknown): End {
  return { kind: "fault", text: `fault in the pump: ${messageOf(error)}` };
}
