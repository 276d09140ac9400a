/**
 * One link of the pump: a TAP joined to a stream, from the first HELLO to the last word. Frames to the peer go through `Sender`,
 * frames from it through `Receiver`; here is what both directions share. Nothing in this file waits.
 */

import type { End } from "../end.ts";
import {
  EAGAIN,
  EBADFD,
  EINTR,
  errnoName,
  libc,
  memoryAt,
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
} from "../linux/libc.ts";
import { setOffload } from "../linux/tap.ts";
import { decodeState } from "../ssh/handshake/connection-state.ts";
import { duration } from "../text.ts";
import { COUNTER, COUNTERS } from "./counters.ts";
import { FRAMINGS } from "./framing.ts";
import { commonMtu, FEATURE_ACK, FEATURE_OFFLOADS, featuresAt, helloProblem, TYPE } from "./message.ts";
import { Pings } from "./pings.ts";
import { type AddOrder, REKEY_LIMIT } from "./pump-protocol.ts";
import { type ControlMessages, Receiver } from "./receive/receiver.ts";
import { Sender } from "./send/sender.ts";
import { Window } from "./send/window.ts";
import { ChannelStream } from "./transport/ssh-channel.ts";
import { SocketStream, type Stream } from "./transport/stream.ts";

/** Frames of one TAP in one round, so that one fast link leaves time to the others. */
const FRAMES_A_ROUND = 64;
/** ms between pings; a third of `silence` where that is shorter. */
const PING = 2000;
/** ms between pings while the window measures the path. */
const PING_PROBE = 20;
/** ms that the last word may take to leave. */
const LINGER = 250;
/** ms that the peer has for its hello at least: a stream may have to be connected first. */
const GREETING = 20_000;
const MIB = 1 << 20;

export class PumpLink implements ControlMessages {
  readonly id: number;
  /** Why the link ended or is ending. */
  end: End | undefined;
  /** Both file descriptors are closed. */
  over = false;
  /** The peer's hello came; in a framing that has none, at once. */
  up: boolean;
  /** What both ends can do, bytes; known once it is up. */
  mtu: number;
  #tap: number;
  readonly #stream: Stream;
  readonly #order: AddOrder;
  /** The framing has messages of all kinds, among them HELLO, PING and CLOSE. */
  readonly #speaks: boolean;
  readonly #stats: Float64Array;
  readonly #base: number;
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #pings = new Pings();
  /** Times in ms of performance.now(): of this turn, of the last ping, of the last bytes that left. */
  #now: number;
  #pinged: number;
  #progress: number;
  /** Bytes that had left by the last look. */
  #left = 0;
  /** Nothing waited for the stream when it was last written to. */
  #idle = true;
  #lingerUntil = 0;

  constructor(order: AddOrder, stats: Float64Array, now: number) {
    this.id = order.id;
    this.mtu = order.mtu;
    this.#order = order;
    this.#tap = order.tap;
    this.#stream = streamOf(order);
    this.#stats = stats;
    this.#base = order.slot * COUNTERS;
    stats.fill(0, this.#base, this.#base + COUNTERS);
    this.#now = this.#progress = this.#pinged = now;
    const framing = FRAMINGS[order.framing];
    this.#speaks = framing.messages;
    this.up = !framing.messages;
    const { mtu, vnet, guard } = order;
    this.#sender = new Sender(framing, mtu);
    this.#receiver = new Receiver({ stream: this.#stream, framing, mtu, vnet, guard }, this, now);
    if (framing.messages) this.#sender.hello(mtu, order.features);
  }

  /** For poll(2): file descriptors (-1 = none) and the events that are waited for. */
  get tap(): number {
    return this.#tap;
  }
  get stream(): number {
    return this.over ? -1 : this.#stream.fd;
  }
  /** Before the peer's hello nobody knows how it wants its frames, so none is read. */
  get tapEvents(): number {
    return this.up ? POLLIN : 0;
  }
  get streamEvents(): number {
    const { pending, blocked } = this.#stream;
    return POLLIN | (pending || (this.#sender.waiting && !blocked) ? POLLOUT : 0);
  }

  get open(): boolean {
    return this.end === undefined;
  }

  /** There is something that the stream or what is below it did not take yet. */
  get #waiting(): boolean {
    return this.#sender.waiting || this.#stream.pending;
  }

  /** Time passes. @returns the ms until it wants to be called again. */
  tick(now: number): number {
    this.#now = now;
    if (this.over) return 0;
    if (this.end !== undefined) {
      if (now >= this.#lingerUntil) this.#finish();
      return Math.max(0, this.#lingerUntil - now);
    }
    if (this.#receiver.more) {
      this.#read();
      this.#publish();
      if (!this.open) return 0;
    }
    const { window } = this.#sender;
    window?.tick(now);
    if (this.#receiver.acknowledge(now)) this.#flush();
    if (this.over) return 0;
    const silence = this.up ? this.#order.silence : Math.max(this.#order.silence, GREETING);
    const quiet = this.#quiet;
    if (quiet >= silence) {
      this.close({ kind: "silent", text: `the peer was silent for ${duration(silence)}` });
      return 0;
    }
    const stuck = this.#waiting ? now - this.#progress : 0;
    if (stuck >= silence) {
      this.close({ kind: "stalled", text: `the stream took nothing for ${duration(silence)}` });
      return 0;
    }
    const left = this.#receiver.more ? 0 : silence - Math.max(quiet, stuck);
    if (!this.#speaks) return Math.min(left, this.#ask());
    const interval = window?.phase === "probe" ? PING_PROBE : Math.min(PING, silence / 3);
    if (now - this.#pinged >= interval) this.#ping();
    return Math.min(this.#pinged + interval - now, left, this.#receiver.ackDue - now);
  }

  /** What poll(2) found on the two file descriptors. */
  service(tapEvents: number, streamEvents: number, now: number): void {
    this.#now = now;
    if (streamEvents & POLLNVAL) this.lost({ kind: "broken", text: "the stream is not open" });
    if (!this.over && streamEvents & (POLLIN | POLLHUP | POLLERR)) {
      if (!this.open) {
        if (!this.#receiver.discard(now)) this.#finish();
      } else if (!this.#receiver.more) {
        this.#read();
      }
    }
    if (this.open && tapEvents & (POLLERR | POLLNVAL)) this.close({ kind: "tap", text: "the TAP is gone" });
    if (this.open && tapEvents & POLLIN) this.#readTap();
    if (this.over) return;
    if (this.#waiting || !this.open) this.#flush();
    this.#publish();
  }

  /** End the link: no frame moves any more, and the peer is told if the stream takes it within LINGER. */
  close(end: End): void {
    if (this.end !== undefined) return;
    this.end = end;
    this.#closeTap();
    this.#sender.close(end.text);
    this.#lingerUntil = this.#now + LINGER;
    this.#flush();
  }

  /** The stream is of no more use, so there is nobody to tell; or the link must not be in the middle of anything. */
  lost(end: End): void {
    this.end ??= end;
    this.#finish();
  }

  /** The peer's hello: from now on both know what they may send. */
  hello(bytes: Uint8Array, offset: number): void {
    const problem = this.up ? "a second hello" : helloProblem(bytes, offset);
    if (problem !== undefined) {
      this.close({ kind: "malformed", text: `the peer sent ${problem}` });
      return;
    }
    this.mtu = commonMtu(this.mtu, bytes, offset);
    this.up = true;
    const { features, vnet } = this.#order;
    const common = featuresAt(bytes, offset) & features;
    this.#receiver.acknowledges = (common & FEATURE_ACK) !== 0;
    if (this.#receiver.acknowledges) this.#sender.window = new Window();
    // To a peer that takes no offloads the kernel hands over whole frames with checksums, so there is nothing left for us to do.
    const offloads = common & FEATURE_OFFLOADS;
    if (vnet) this.#sender.offload = offloads !== 0 && setOffload(this.#tap, offloads) !== 0;
    this.#pinged = Number.NEGATIVE_INFINITY; // so that the round trip time is known soon
  }

  ping(high: number, low: number): void {
    this.#sender.ping(TYPE.pong, high, low);
  }

  /** Only answers to our own pings count, each once: the peer could send any number. */
  pong(high: number, low: number): void {
    const rtt = this.#pings.answered(high * 0x1_0000_0000 + low, this.#now);
    if (rtt === undefined) return;
    this.#stats[this.#base + COUNTER.rtt] = rtt;
    this.#sender.window?.measured(rtt, this.#now);
  }

  sendAck(total: number, delay: number): void {
    this.#sender.ack(total, delay);
  }

  acknowledged(total: number, delay: number): void {
    const { window } = this.#sender;
    if (window === undefined || !window.acked(total, delay / 1000, this.#now)) {
      this.close({ kind: "malformed", text: "the peer sent an acknowledgement of what was not sent" });
    } else {
      this.#sender.tune();
    }
  }

  #readTap(): void {
    for (let i = 0; i < FRAMES_A_ROUND; i++) {
      const n = this.#sender.pull(this.#tap, this.#order.vnet, this.#now);
      if (n >= 0 || n === -EINTR) continue;
      if (n === -EBADFD) this.close({ kind: "tap", text: "the TAP is gone" });
      else if (n !== -EAGAIN) this.close({ kind: "tap", text: `the TAP cannot be read (${errnoName(-n)})` });
      return;
    }
  }

  /** @returns whether something came. */
  #read(): boolean {
    const came = this.#receiver.read(this.#tap, this.#now);
    if (came) this.#receiver.acknowledge(this.#now);
    return came;
  }

  /** ms since the peer showed that it lives. */
  get #quiet(): number {
    // Without PING a peer that has no traffic says nothing: whether it lives is for the stream to ask.
    const heard = this.#speaks ? this.#receiver.heard : this.#stream.heard;
    return heard === undefined ? 0 : this.#now - heard;
  }

  /** In a framing without PING: ask in the stream's own way. @returns the ms until it is to ask again. */
  #ask(): number {
    const interval = this.#order.silence / 3;
    if (this.#now - this.#pinged >= interval) {
      this.#pinged = this.#now;
      this.#stream.ask();
    }
    return this.#pinged + interval - this.#now;
  }

  #ping(): void {
    this.#pinged = this.#now;
    // Those of a probe come too often to tell how the path is.
    const stamp = this.#pings.send(this.#now, this.#sender.window?.phase !== "probe");
    this.#sender.ping(TYPE.ping, Math.floor(stamp / 0x1_0000_0000), stamp >>> 0);
    this.#publish();
    this.#flush();
  }

  #flush(): void {
    const stream = this.#stream;
    const before = this.#left;
    const broken = stream.flush();
    const n = broken < 0 ? broken : this.#sender.flush(stream, this.#now);
    this.#left = stream.left;
    if (this.#left !== before || this.#idle) this.#progress = this.#now;
    this.#idle = !this.#waiting;
    if (n < 0) {
      // The peer is gone, but perhaps it said why before it went.
      while (this.open && this.#read());
      this.lost({ kind: "broken", text: `the stream broke (${errnoName(-n)})` });
    } else if (this.end !== undefined && this.#idle && stream.close()) this.#finish();
  }

  #finish(): void {
    if (this.over) return;
    this.#publish();
    this.#sender.dispose();
    this.#receiver.dispose();
    this.#closeTap();
    try {
      this.#stream.close();
    } catch {
      // It is what broke us, perhaps.
    }
    this.#stream.dispose();
    libc.close(this.#stream.fd);
    this.over = true;
  }

  #closeTap(): void {
    if (this.#tap >= 0) libc.close(this.#tap);
    this.#tap = -1;
  }

  #publish(): void {
    const stats = this.#stats;
    const base = this.#base;
    const sender = this.#sender;
    const receiver = this.#receiver;
    const pings = this.#pings;
    stats[base + COUNTER.framesIn] = receiver.frames;
    stats[base + COUNTER.bytesIn] = receiver.bytes;
    stats[base + COUNTER.refused] = receiver.refused;
    stats[base + COUNTER.framesOut] = sender.framesOut;
    stats[base + COUNTER.bytesOut] = sender.bytesOut;
    stats[base + COUNTER.dropped] = sender.dropped + receiver.lost;
    stats[base + COUNTER.marked] = sender.marked;
    stats[base + COUNTER.queued] = sender.queued;
    stats[base + COUNTER.queueDelay] = sender.queueDelay;
    stats[base + COUNTER.rekeys] = this.#stream.rekeys;
    stats[base + COUNTER.pings] = pings.count;
    stats[base + COUNTER.late] = pings.late;
    stats[base + COUNTER.loss] = pings.loss;
    const { window } = sender;
    if (window === undefined) return;
    stats[base + COUNTER.window] = window.size;
    stats[base + COUNTER.rate] = window.rate * 1000;
    stats[base + COUNTER.minRtt] = Number.isFinite(window.minRtt) ? window.minRtt : 0;
    stats[base + COUNTER.inFlight] = window.inFlight;
  }
}

function streamOf({ stream, ssh, rekeyLimit = REKEY_LIMIT }: AddOrder): Stream {
  if (ssh === undefined) return new SocketStream(stream);
  return new ChannelStream(stream, decodeState(memoryAt(ssh.address, ssh.length)), rekeyLimit * MIB);
}
