/**
 * One link of the pump: a TAP joined to a stream, from the first HELLO to the end.
 *
 * A link owns both file descriptors. Frames go from the TAP to its `FrameSource`, its `Sender` and the stream,
 * and from the stream to its `Receiver`, its `FrameSink` and the TAP. This file is what both directions share:
 * HELLO, PING and CLOSE, the checks that the peer is alive, the counters, and the end. The pump calls `tick`
 * before each poll(2), and `service` when one of the descriptors is ready. No call blocks.
 *
 * A link is the first lane of a tunnel. A further lane is a link as well: it has a stream, but no TAP. Source
 * and sink are those of the first lane. It ends with that lane, and its own end is the end of nothing else.
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
import { COUNTER, COUNTERS, TAKEN } from "./counters.ts";
import { FRAMINGS } from "./framing.ts";
import {
  commonMtu,
  FEATURE_ACK,
  FEATURE_LANES,
  FEATURE_OFFLOADS,
  featuresAt,
  helloProblem,
  TYPE,
} from "./message.ts";
import { Pings } from "./pings.ts";
import { type AddOrder, REKEY_LIMIT, type ThreadEvent } from "./pump-protocol.ts";
import { FrameSink } from "./receive/frame-sink.ts";
import { type ControlMessages, Receiver } from "./receive/receiver.ts";
import { ChannelMessages, MESSAGE_COST } from "./send/channel-messages.ts";
import { FrameSource } from "./send/frame-source.ts";
import { Sender } from "./send/sender.ts";
import { Window } from "./send/window.ts";
import { ChannelStream } from "./transport/ssh-channel.ts";
import { SocketStream, type Stream } from "./transport/stream.ts";

/** Frames that one call of `service` reads from the TAP, so that a fast link leaves time to the others. */
const FRAMES_A_ROUND = 64;
/** ms between PINGs, or a third of `silence` if that is shorter. */
const PING_INTERVAL = 2000;
/** ms that a link which is ending waits for CLOSE to leave. */
const LINGER = 250;
/** The least time that the peer has for its HELLO, ms: a stream may have to be connected first. */
const HELLO_TIMEOUT = 20_000;
const MIB = 1 << 20;
/**
 * Bytes of other channels' messages, each with its cost, that may wait for the main thread, and those that may
 * wait here for the peer. The windows of the channels allow less.
 */
const MESSAGES_MAX = 4 * MIB;
/**
 * The least window of a further lane, bytes. Where there are several lanes the path loses packets, or is long. TCP
 * keeps little in flight on it, and what waits in front of a lane's TCP keeps no light flow waiting. A window that
 * took TCP's retransmissions for a queue would only starve it.
 */
const FURTHER_LEAST = 14_336;
/** ms after which a message that the stream did not take is tried again. */
const RETRY = 5;

export class PumpLink implements ControlMessages {
  /** Number of the link, given by the main thread. */
  readonly id: number;
  /** Why the link ended or is ending; undefined while it is open. */
  end: End | undefined;
  /** The link has ended, and both file descriptors are closed. */
  over = false;
  /** The peer's HELLO has come. In a framing without HELLO it is true from the beginning. */
  up: boolean;
  /** The MTU that both ends agreed on, bytes; before HELLO, that of this end. */
  mtu: number;
  /** The peer may number frames: both ends know lanes. */
  lanes = false;
  /** The first lane of the tunnel; undefined: this is the first one. */
  readonly #first: PumpLink | undefined;
  /** The further lanes that are not over. */
  readonly #further: PumpLink[] = [];
  /** The link is ending, and its TAP is not closed before its time. */
  #keepsTap = false;
  readonly #stream: Stream;
  readonly #order: AddOrder;
  /** The framing has control messages: HELLO, PING, CLOSE and others. */
  readonly #hasControl: boolean;
  /** The shared memory with the counters of all links. */
  readonly #stats: Float64Array;
  /** Where the counters of this link begin in it. */
  readonly #base: number;
  readonly #source: FrameSource;
  readonly #sink: FrameSink;
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #pings = new Pings();
  /** Messages of the connection's other channels, to the peer. */
  readonly #messages = new ChannelMessages();
  /** Bytes of such messages that came from the peer, each with its cost. */
  #told = 0;
  /** Time of the current call of `tick` or `service`, ms of performance.now(). */
  #now: number;
  /** When the last PING was sent, or the stream last asked for a sign of life; same clock. */
  #pinged: number;
  /** When bytes last left the stream, or nothing waited to leave; same clock. */
  #progress: number;
  /** Bytes that the stream had sent after the last flush, since the beginning. */
  #left = 0;
  /** Nothing waited to leave after the last flush. */
  #idle = true;
  /** When an ending link stops to wait for CLOSE to leave; same clock. */
  #lingerUntil = 0;

  /**
   * @param order says which TAP and stream to join, and how. The link owns both descriptors only once this
   *   returns.
   * @param stats memory for the counters of all links; those of this link are set to 0.
   * @param now ms of performance.now().
   * @param tell tells the main thread.
   * @param first the first lane of the tunnel, which is open, if this is a further one.
   * @throws Error when the state of an SSH connection is malformed, or the guard is not a MAC address.
   */
  constructor(
    order: AddOrder,
    stats: Float64Array,
    now: number,
    readonly tell: (event: ThreadEvent) => void = () => {},
    first?: PumpLink,
  ) {
    this.id = order.id;
    this.mtu = order.mtu;
    this.#order = order;
    this.#first = first;
    this.#stream = streamOf(order, (payload) => this.#pass(payload));
    this.#stats = stats;
    this.#base = order.slot * COUNTERS;
    stats.fill(0, this.#base, this.#base + COUNTERS);
    this.#now = this.#progress = this.#pinged = now;
    const framing = FRAMINGS[order.framing];
    this.#hasControl = framing.messages;
    this.up = !framing.messages;
    const { mtu, vnet, guard } = order;
    try {
      const own = first === undefined;
      this.#source = own ? new FrameSource(framing, mtu) : first.#source;
      this.#sink = own ? new FrameSink(order.tap, vnet, guard, (end) => this.stop(end)) : first.#sink;
      this.#receiver = new Receiver({ stream: this.#stream, framing, mtu, sink: this.#sink }, this, now);
      this.#sender = new Sender(framing, this.#source, first !== undefined);
    } catch (error) {
      this.#stream.free();
      throw error;
    }
    if (framing.messages) this.#sender.hello(mtu, order.features);
    if (first !== undefined) first.#further.push(this);
  }

  /** File descriptor of the TAP for poll(2); -1 = none. */
  get tap(): number {
    return this.open && this.#first === undefined ? this.#sink.tap : -1;
  }
  /** File descriptor of the stream for poll(2); -1 = none. */
  get stream(): number {
    return this.over ? -1 : this.#stream.fd;
  }
  /** Events of the TAP to wait for. Before HELLO it is unknown what the peer takes, so no frame is read. */
  get tapEvents(): number {
    return this.up ? POLLIN : 0;
  }
  /** Events of the stream to wait for. */
  get streamEvents(): number {
    const { pending, blocked } = this.#stream;
    return POLLIN | (pending || (this.#sender.waiting && !blocked) ? POLLOUT : 0);
  }

  /** The link is neither ending nor over. */
  get open(): boolean {
    return this.end === undefined;
  }

  /** Whether bytes wait to leave: in the sender, or in the stream. */
  get #waiting(): boolean {
    return this.#sender.waiting || this.#stream.pending;
  }

  /**
   * Do what is due by now: send PINGs and acknowledgements, and end the link if the peer is silent or takes
   * nothing.
   * @param now ms of performance.now().
   * @returns ms until the next call is due.
   */
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
    this.#sender.window?.refill(now);
    this.#sender.look(this.#stream, now);
    const late = this.#first === undefined ? this.#sink.tick(now) : Number.POSITIVE_INFINITY;
    if (!this.open) return 0; // the TAP has gone
    if (this.#first === undefined) this.#source.age(now);
    const due = this.#messagesDue(now);
    if (this.#receiver.acknowledge(now) || due === 0) this.#flush();
    if (this.over) return 0;
    const silence = this.up ? this.#order.silence : Math.max(this.#order.silence, HELLO_TIMEOUT);
    const quiet = this.#quiet;
    if (quiet >= silence) {
      this.stop({ kind: "silent", text: `the peer was silent for ${duration(silence)}` });
      return 0;
    }
    const stuck = this.#waiting ? now - this.#progress : 0;
    if (stuck >= silence) {
      this.stop({ kind: "stalled", text: `nothing could be sent to the peer for ${duration(silence)}` });
      return 0;
    }
    const alive = this.#receiver.more ? 0 : silence - Math.max(quiet, stuck);
    const left = Math.min(alive, late, this.#sender.wait, Math.max(RETRY, this.#messagesDue(now)));
    if (!this.#hasControl) return Math.min(left, this.#askStream());
    const interval = Math.min(PING_INTERVAL, silence / 3);
    if (now - this.#pinged >= interval) this.#ping();
    return Math.min(this.#pinged + interval - now, left, this.#receiver.ackDue - now);
  }

  /**
   * Handle the events that poll(2) reported.
   * @param tapEvents POLL… bits of the TAP.
   * @param streamEvents POLL… bits of the stream.
   * @param now ms of performance.now().
   */
  service(tapEvents: number, streamEvents: number, now: number): void {
    this.#now = now;
    if (streamEvents & POLLNVAL)
      this.stopNow({ kind: "broken", text: "the file descriptor of the stream is not open" });
    if (!this.over && streamEvents & (POLLIN | POLLHUP | POLLERR)) {
      if (!this.open) {
        if (!this.#receiver.discard(now)) this.#finish();
      } else if (!this.#receiver.more) {
        this.#read();
      }
    }
    if (this.open && tapEvents & (POLLERR | POLLNVAL))
      this.stop({ kind: "tap", text: "the TAP no longer exists" });
    if (this.open && tapEvents & POLLIN) this.#readTap();
    if (this.over) return;
    if (this.#waiting || !this.open) this.#flush();
    // What the TAP gave, and copies of what was sent, may be for the further lanes, which take turns.
    for (let took = true; took; ) {
      took = false;
      for (let i = 0; i < this.#further.length; i++) took = this.#further[i]?.offer(now) === true || took;
    }
    this.#publish();
  }

  /** Frames may be there for this further lane. @returns whether it took some. */
  offer(now: number): boolean {
    this.#now = now;
    if (!this.open || !this.#waiting) return false;
    const before = this.#sender.inFlight;
    this.#flush();
    return this.#sender.inFlight > before;
  }

  /**
   * End the link: no frame moves any more. The peer is told why, if CLOSE can leave within LINGER; the link
   * is over after that. Does nothing if the link is ending already.
   */
  stop(end: End): void {
    if (this.end !== undefined) return;
    this.#closeTap();
    this.#stop(end);
  }

  /**
   * As `stop`, but the TAP stays open until the peer has gone, or until LINGER is over: to close one takes the
   * kernel some 20 ms. Meanwhile others can remove many at once.
   */
  stopKeepingTap(end: End): void {
    if (this.end !== undefined) return;
    this.#keepsTap = true;
    this.#stop(end);
  }

  #stop(end: End): void {
    this.end = end;
    if (this.#first === undefined) this.#source.clear();
    this.#leave(end);
    this.#sender.close(end.text);
    this.#lingerUntil = this.#now + LINGER;
    this.#flush();
  }

  /**
   * End the link at once, without telling the peer: the stream cannot be used any more, or an error left the
   * link in an unknown state.
   */
  stopNow(end: End): void {
    this.end ??= end;
    this.#leave(end);
    this.#finish();
  }

  /** This link takes frames no more: a further lane leaves the tunnel; with the first one all others end. */
  #leave(end: End): void {
    const first = this.#first;
    const joined = this.#sender.takesFrames;
    this.#sender.takesFrames = false;
    if (first === undefined) {
      for (const lane of [...this.#further]) lane.stop(end);
      return;
    }
    const at = first.#further.indexOf(this);
    if (at >= 0) first.#further.splice(at, 1);
    if (joined) this.#source.removeLane(this.#sender);
  }

  /** A further lane takes frames from now on. */
  #join(): void {
    const first = this.#first;
    if (first === undefined) return;
    this.#sender.takesFrames = true;
    if (!this.#source.addLane(this.#sender)) return;
    first.#sender.numbering();
    first.#now = this.#now;
    first.#flush();
  }

  numbering(): void {
    if (this.#first === undefined) this.#sink.numbering(this.#now);
    else this.stop({ kind: "malformed", text: "the peer sent NUMBERING on a further lane" });
  }

  /** Send a message of another channel of the connection. */
  send(payload: Uint8Array): void {
    if (!this.open) return;
    this.#messages.add(payload);
    if (this.#messages.bytes > MESSAGES_MAX)
      this.stop({ kind: "excess", text: "the peer asks for more on other channels than it takes" });
  }

  /** Take the peer's HELLO: from now on both ends know what they may send. The payload begins at `offset`. */
  hello(bytes: Uint8Array, offset: number): void {
    const problem = this.up ? "a second HELLO" : helloProblem(bytes, offset);
    if (problem !== undefined) {
      this.stop({ kind: "malformed", text: `the peer sent ${problem}` });
      return;
    }
    const { features, vnet } = this.#order;
    const common = featuresAt(bytes, offset) & features;
    this.lanes = (common & FEATURE_LANES) !== 0 && (this.#first?.lanes ?? true);
    if (this.#first !== undefined && !this.lanes) {
      this.stop({ kind: "malformed", text: "the peer sent a HELLO without lanes on a further lane" });
      return;
    }
    this.mtu = commonMtu(this.mtu, bytes, offset);
    this.up = true;
    this.#receiver.acknowledges = (common & FEATURE_ACK) !== 0;
    if (this.#receiver.acknowledges) this.#sender.window = new Window(this.#first && FURTHER_LEAST);
    // For a peer that takes no offloads the TAP's stay off: then the kernel splits super-frames and computes
    // checksums.
    const offloads = common & FEATURE_OFFLOADS;
    if (vnet && this.#first === undefined)
      this.#source.offload = offloads !== 0 && setOffload(this.#sink.tap, offloads) !== 0;
    // Send the first PING at once, so that the round trip time is known soon.
    this.#pinged = Number.NEGATIVE_INFINITY;
    this.#join();
  }

  /** Answer a PING. The payload is a u64 in two halves. */
  ping(high: number, low: number): void {
    this.#sender.ping(TYPE.pong, high, low);
  }

  /** Take a PONG. It counts only if it answers a PING of ours, and only once: the peer could send many. */
  pong(high: number, low: number): void {
    const rtt = this.#pings.answered(high * 0x1_0000_0000 + low, this.#now);
    if (rtt === undefined) return;
    this.#stats[this.#base + COUNTER.rtt] = rtt;
    this.#sender.window?.measured(rtt, this.#now);
  }

  /** Send an ACK: `total` bytes received modulo 2^32, the last of them `delay` µs ago. */
  sendAck(total: number, delay: number): void {
    this.#sender.ack(total, delay);
  }

  /**
   * Take an ACK: the peer has received `total` bytes modulo 2^32, the last of them `delay` µs before the ACK.
   */
  acknowledged(total: number, delay: number): void {
    const { window } = this.#sender;
    if (window === undefined || !window.acked(total, delay / 1000, this.#now)) {
      this.stop({ kind: "malformed", text: "the peer acknowledged more than was sent" });
    } else {
      this.#sender.look(this.#stream, this.#now);
      this.#source.tune(window, this.#first !== undefined);
    }
  }

  /** Pass a message of another channel to the main thread, which lets the peer send no more than it takes. */
  #pass(payload: Uint8Array): void {
    this.#told += payload.length + MESSAGE_COST;
    if (this.#told - (this.#stats[this.#base + TAKEN] ?? 0) > MESSAGES_MAX)
      throw new Error("more on other channels than their windows allow");
    this.tell({ kind: "message", id: this.id, payload });
  }

  /** ms until a message of another channel may leave. */
  #messagesDue(now: number): number {
    const sender = this.#sender;
    return this.#messages.due(now, sender.window?.rate ?? 0, this.#source.queued > 0);
  }

  /** Send messages of other channels, as far as they may leave now and the stream takes them. */
  #sendMessages(): void {
    const messages = this.#messages;
    let left = 0;
    while (!this.#stream.pending && this.#messagesDue(this.#now) === 0) {
      const { next } = messages;
      if (next === undefined || !this.#stream.send(next)) break;
      left += messages.shift();
      this.#stream.flush();
    }
    if (left > 0) this.tell({ kind: "messages-left", id: this.id, bytes: left });
  }

  #readTap(): void {
    for (let i = 0; i < FRAMES_A_ROUND; i++) {
      const n = this.#source.pull(this.#sink.tap, this.#order.vnet, this.#now);
      if (n >= 0 || n === -EINTR) continue;
      if (n === -EBADFD) this.stop({ kind: "tap", text: "the TAP no longer exists" });
      else if (n !== -EAGAIN) this.stop({ kind: "tap", text: `the TAP cannot be read (${errnoName(-n)})` });
      return;
    }
  }

  /** Read from the stream, and acknowledge what came. @returns whether bytes came. */
  #read(): boolean {
    const came = this.#receiver.read(this.#now);
    if (came) this.#receiver.acknowledge(this.#now);
    return came;
  }

  /** ms since the last sign of life of the peer. */
  get #quiet(): number {
    // Without PING an idle peer sends nothing. Only the stream may know then whether it is alive.
    const heard = this.#hasControl ? this.#receiver.heard : this.#stream.heard;
    return heard === undefined ? 0 : this.#now - heard;
  }

  /**
   * For a framing without PING: let the stream ask the peer for a sign of life.
   * @returns ms until it is due again.
   */
  #askStream(): number {
    const interval = this.#order.silence / 3;
    if (this.#now - this.#pinged >= interval) {
      this.#pinged = this.#now;
      this.#stream.ask();
    }
    return this.#pinged + interval - this.#now;
  }

  #ping(): void {
    this.#pinged = this.#now;
    const stamp = this.#pings.send(this.#now);
    this.#sender.ping(TYPE.ping, Math.floor(stamp / 0x1_0000_0000), stamp >>> 0);
    this.#publish();
    this.#flush();
  }

  /** Write what waits. The link is over if the stream has failed, or if it was ending and all has left. */
  #flush(): void {
    const stream = this.#stream;
    const before = this.#left;
    const broken = stream.flush();
    if (broken >= 0 && this.open && this.#messages.waiting) this.#sendMessages();
    const n = broken < 0 ? broken : this.#sender.flush(stream, this.#now);
    this.#left = stream.left;
    if (this.#left !== before || this.#idle) this.#progress = this.#now;
    this.#idle = !this.#waiting;
    if (n < 0) {
      // Nothing can be sent any more, but what the peer sent before may still say why.
      while (this.open && this.#read());
      this.stopNow({ kind: "broken", text: `the stream failed (${errnoName(-n)})` });
    } else if (this.end !== undefined && !this.#keepsTap && this.#idle && stream.close()) this.#finish();
  }

  #finish(): void {
    if (this.over) return;
    this.#publish();
    this.#sender.free();
    this.#receiver.free();
    if (this.#first === undefined) {
      this.#source.free();
      this.#sink.free();
    }
    this.#closeTap();
    try {
      this.#stream.close();
    } catch {
      // Perhaps it is the stream that made the link end. Its descriptor is closed below in any case.
    }
    this.#stream.free();
    libc.close(this.#stream.fd);
    this.over = true;
  }

  #closeTap(): void {
    if (this.#first !== undefined) return;
    if (this.#sink.tap >= 0) libc.close(this.#sink.tap);
    this.#sink.tap = -1;
  }

  /** Write the counters to the shared memory. */
  #publish(): void {
    const stats = this.#stats;
    const base = this.#base;
    const source = this.#source;
    const sink = this.#sink;
    const pings = this.#pings;
    // What is of the whole tunnel is counted at its first lane.
    if (this.#first === undefined) {
      stats[base + COUNTER.framesIn] = sink.frames;
      stats[base + COUNTER.bytesIn] = sink.bytes;
      stats[base + COUNTER.refused] = sink.refused;
      stats[base + COUNTER.framesOut] = source.framesOut;
      stats[base + COUNTER.bytesOut] = source.bytesOut;
      stats[base + COUNTER.dropped] = source.dropped + sink.lost;
      stats[base + COUNTER.marked] = source.marked;
      stats[base + COUNTER.queued] = source.queued;
      stats[base + COUNTER.queueDelay] = source.queueDelay;
      stats[base + COUNTER.lanes] = 1 + source.lanes;
    }
    stats[base + COUNTER.rekeys] = this.#stream.rekeys;
    stats[base + COUNTER.pings] = pings.count;
    stats[base + COUNTER.late] = pings.late;
    stats[base + COUNTER.loss] = pings.loss;
    const { window } = this.#sender;
    if (window === undefined) return;
    stats[base + COUNTER.window] = window.size;
    stats[base + COUNTER.rate] = window.rate * 1000;
    stats[base + COUNTER.minRtt] = Number.isFinite(window.minRtt) ? window.minRtt : 0;
    stats[base + COUNTER.inFlight] = window.inFlight;
  }
}

/** The stream of an order. @param others takes messages of other channels. @throws Error when the state of the SSH connection is malformed. */
function streamOf(order: AddOrder, others: (payload: Uint8Array) => void): Stream {
  const { stream, ssh, rekeyLimit = REKEY_LIMIT, channels } = order;
  if (ssh === undefined) return new SocketStream(stream);
  const state = decodeState(memoryAt(ssh.address, ssh.length));
  return new ChannelStream(stream, state, rekeyLimit * MIB, channels === true ? others : undefined);
}
