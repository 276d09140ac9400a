/** One link of the pump: a TAP, a stream, and what is known of the peer. Nothing here waits. */

import { readU32 } from "../bytes.ts";
import {
  at,
  EAGAIN,
  EBADFD,
  EINTR,
  errno,
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
import { duration, safeText } from "../text.ts";
import { sanitise, VIRTIO } from "./frame/virtio.ts";
import {
  commonMtu,
  FEATURE_ACK,
  FEATURE_OFFLOADS,
  featuresAt,
  HEADER,
  helloProblem,
  originalMax,
  REASON_MAX,
  TYPE,
} from "./message.ts";
import { Pings } from "./pings.ts";
import { type AddOrder, COUNTER, COUNTERS, REKEY_LIMIT } from "./pump-protocol.ts";
import { GroupLimit, refusal } from "./receive/guard.ts";
import { MessageReader } from "./receive/message-reader.ts";
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
/** Acknowledge this many bytes at once, fewer after ACK_PAUSE ms, and the last after ACK_LAST ms. */
const ACK_BYTES = 262_144;
const ACK_SOME = 3000;
const ACK_PAUSE = 1;
const ACK_LAST = 5;
const MIB = 1 << 20;

export class PumpLink {
  readonly id: number;
  /** Why the link ended or is ending. */
  reason: string | undefined;
  /** Both file descriptors are closed. */
  over = false;
  up = false;
  /** What both ends can do, bytes; known once it is up. */
  mtu: number;
  #tap: number;
  readonly #stream: Stream;
  #order: AddOrder;
  #stats: Float64Array;
  #base: number;
  #out: Sender;
  #in: MessageReader;
  #refused = 0;
  #groups = new GroupLimit();
  #lost = 0;
  /** Times in ms, of performance.now(). */
  #heard: number;
  #pinged: number;
  #progress: number;
  /** Bytes that had left by the last look. */
  #left = 0;
  /** Nothing waited for the stream when it was last written to. */
  #idle = true;
  #lingerUntil = 0;
  #pings = new Pings();
  /** Bytes of frames that came, those of them that are not acknowledged yet, when the first and the last of these came. */
  #received = 0;
  #unacked = 0;
  #unackedFirst = 0;
  #unackedLast = 0;
  #ackTime = 0;
  /** The peer wants to be told what came. */
  #acks = false;

  constructor(order: AddOrder, stats: Float64Array, now: number) {
    this.id = order.id;
    this.mtu = order.mtu;
    this.#order = order;
    this.#tap = order.tap;
    this.#stream = streamOf(order);
    this.#stats = stats;
    this.#base = order.slot * COUNTERS;
    stats.fill(0, this.#base, this.#base + COUNTERS);
    this.#heard = now;
    this.#progress = now;
    this.#pinged = now;
    const original = order.original ? originalMax(order.mtu) : undefined;
    this.#out = new Sender(original);
    this.#in = new MessageReader(original);
    if (order.original) this.up = true;
    else this.#out.hello(order.mtu, order.features);
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
    return POLLIN | (pending || (this.#out.waiting && !blocked) ? POLLOUT : 0);
  }
  /** There is something that the stream or what is below it did not take yet. */
  get #waiting(): boolean {
    return this.#out.waiting || this.#stream.pending;
  }

  /** End the link: no frame moves any more, the peer is told if the stream takes it within a moment. */
  close(reason: string, now: number): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    this.#closeTap();
    this.#out.close(reason);
    this.#lingerUntil = now + LINGER;
    this.#flush(now);
  }

  /** What time brings. Returns the ms until it wants to be called again. */
  tick(now: number): number {
    if (this.over) return 0;
    if (this.reason !== undefined) {
      if (now >= this.#lingerUntil) this.#finish();
      return Math.max(0, this.#lingerUntil - now);
    }
    if (this.#stream.more) {
      this.#readStream(now);
      if (this.reason !== undefined) return 0;
    }
    const { window } = this.#out;
    window?.tick(now);
    if (this.#acknowledge(now)) this.#flush(now);
    if (this.over) return 0;
    const silence = this.up ? this.#order.silence : Math.max(this.#order.silence, GREETING);
    const quiet = this.#quiet(now);
    if (quiet >= silence) {
      this.close(`the peer was silent for ${duration(silence)}`, now);
      return 0;
    }
    const stuck = this.#waiting ? now - this.#progress : 0;
    if (stuck >= silence) {
      this.close(`the stream took nothing for ${duration(silence)}`, now);
      return 0;
    }
    if (this.#order.original) return this.#ask(silence - Math.max(quiet, stuck), now);
    const pause = window?.phase === "probe" ? PING_PROBE : Math.min(PING, silence / 3);
    if (now - this.#pinged >= pause) this.#ping(now);
    return Math.min(this.#pinged + pause - now, silence - Math.max(quiet, stuck), this.#ackDue - now);
  }

  /** ms since the peer showed that it lives. */
  #quiet(now: number): number {
    // In the original framing who has no traffic says nothing: whether he lives is for ssh to ask.
    const heard = this.#order.original ? this.#stream.heard : this.#heard;
    return heard === undefined ? 0 : now - heard;
  }

  /** In the original framing there is no PING: ask in the stream's own way. Returns the ms until something is to be done. */
  #ask(left: number, now: number): number {
    const pause = this.#order.silence / 3;
    if (now - this.#pinged >= pause) {
      this.#pinged = now;
      this.#stream.ask();
    }
    return Math.min(left, this.#pinged + pause - now);
  }

  /** What poll(2) found on the two file descriptors. */
  service(tapEvents: number, streamEvents: number, now: number): void {
    if (streamEvents & POLLNVAL) this.#broken("the stream is not open");
    if (streamEvents & (POLLIN | POLLHUP | POLLERR)) {
      if (this.reason === undefined) this.#readStream(now);
      else this.#discard(now);
    }
    if (this.reason === undefined && tapEvents & (POLLERR | POLLNVAL)) this.close("the TAP is gone", now);
    if (this.reason === undefined && tapEvents & POLLIN) this.#readTap(now);
    if (this.over) return;
    if (this.#waiting || this.reason !== undefined) this.#flush(now);
    this.#publish();
  }

  /** Close both at once: what must not be in the middle of anything, such as a link that broke us. */
  abort(reason: string): void {
    this.reason ??= reason;
    this.#finish();
  }

  #readTap(now: number): void {
    for (let i = 0; i < FRAMES_A_ROUND; i++) {
      const n = this.#out.pull(this.#tap, this.#order.vnet, now);
      if (n >= 0 || n === -EINTR) continue;
      if (n === -EBADFD) this.close("the TAP is gone", now);
      else if (n !== -EAGAIN) this.close(`the TAP cannot be read (${errnoName(-n)})`, now);
      return;
    }
  }

  /** @returns whether something came. */
  #readStream(now: number): boolean {
    const stream = this.#stream;
    let came = false;
    do {
      const reader = this.#in;
      const n = stream.read(reader.memory, reader.end, reader.room, now);
      if (n <= 0) {
        if (n === 0) this.#streamEnded();
        else if (n !== -EAGAIN) this.#broken(`the stream broke (${errnoName(-n)})`);
        reader.giveBack();
        break;
      }
      came = true;
      this.#heard = now;
      reader.filled(n);
      while (this.reason === undefined && reader.next()) this.#message(now);
      if (this.reason === undefined && reader.problem !== undefined) this.#malformed(reader.problem, now);
      reader.giveBack();
    } while (this.reason === undefined && stream.more);
    if (came) this.#acknowledge(now);
    return came;
  }

  /** While the last word leaves: what still comes is of no use, but what it says to SSH is. */
  #discard(now: number): void {
    const reader = this.#in;
    reader.giveBack(true);
    const n = this.#stream.read(reader.memory, reader.end, reader.room, now);
    reader.giveBack(true);
    if (n <= 0 && n !== -EAGAIN) this.#finish();
  }

  #streamEnded(): void {
    const words = this.#in.empty
      ? "the peer's end of the stream is closed"
      : "the stream ended inside a message";
    this.#broken(this.#stream.problem ?? words);
  }

  /** When the next acknowledgement has to leave. */
  get #ackDue(): number {
    if (this.#unacked === 0) return Number.POSITIVE_INFINITY;
    return this.#unacked >= ACK_SOME ? this.#ackTime + ACK_PAUSE : this.#unackedFirst + ACK_LAST;
  }

  /** Say what came, if it is time. */
  #acknowledge(now: number): boolean {
    if (this.#unacked === 0 || (this.#unacked < ACK_BYTES && now < this.#ackDue)) return false;
    this.#out.ack(this.#received, Math.round((now - this.#unackedLast) * 1000));
    this.#unacked = 0;
    this.#ackTime = now;
    return true;
  }

  #count(bytes: number, now: number): void {
    if (!this.#acks) return;
    this.#received = (this.#received + bytes) >>> 0;
    if (this.#unacked === 0) this.#unackedFirst = now;
    this.#unackedLast = now;
    this.#unacked += bytes;
  }

  #message(now: number): void {
    const { type, offset, length, memory } = this.#in;
    if (type === TYPE.close) {
      const text = new TextDecoder().decode(memory.bytes.subarray(offset, offset + length));
      const words = safeText(text, REASON_MAX);
      this.#broken(words === "" ? "the peer ended the tunnel" : `the peer ended the tunnel: ${words}`);
    } else if (type === TYPE.hello) {
      const problem = this.up ? "a second hello" : helloProblem(memory.bytes, offset);
      if (problem !== undefined) {
        this.#malformed(problem, now);
        return;
      }
      this.mtu = commonMtu(this.mtu, memory.bytes, offset);
      this.#greeted(featuresAt(memory.bytes, offset));
      this.#pinged = Number.NEGATIVE_INFINITY; // so that the round trip time is known soon
    } else if (!this.up) {
      this.#malformed("a message before its hello", now);
    } else if (type === TYPE.frame || (type === TYPE.offloaded && this.#order.vnet)) {
      this.#count(HEADER + length, now);
      this.#frame(type === TYPE.offloaded, offset, length, now);
    } else if (type === TYPE.ack) {
      this.#acked(readU32(memory.bytes, offset), readU32(memory.bytes, offset + 4), now);
    } else if (type === TYPE.offloaded) {
      this.#malformed("an offloaded frame, which we did not ask for", now);
    } else if (type === TYPE.ping) {
      this.#out.ping(TYPE.pong, readU32(memory.bytes, offset), readU32(memory.bytes, offset + 4));
    } else {
      this.#pong(offset, now);
    }
  }

  /** The peer's hello: from now on both know what they may send. */
  #greeted(theirs: number): void {
    this.up = true;
    const { features, vnet } = this.#order;
    this.#acks = (theirs & features & FEATURE_ACK) !== 0;
    if (this.#acks) this.#out.window = new Window();
    // To a peer that takes none the kernel hands over whole frames with checksums, so there is nothing left for us to do.
    const common = theirs & features & FEATURE_OFFLOADS;
    if (vnet) this.#out.offload = common !== 0 && setOffload(this.#tap, common) !== 0;
  }

  #acked(total: number, delay: number, now: number): void {
    const { window } = this.#out;
    if (window === undefined || !window.acked(total, delay / 1000, now)) {
      this.#malformed("an acknowledgement of what was not sent", now);
    } else {
      this.#out.tune();
    }
  }

  #frame(offloaded: boolean, offset: number, length: number, now: number): void {
    const { memory } = this.#in;
    const { guard, vnet } = this.#order;
    const end = offset + length;
    // The reader leaves room in front of every message.
    const header = offloaded ? offset : offset - VIRTIO;
    const frame = header + VIRTIO;
    const sane = !offloaded || sanitise(memory.bytes, header, end, guard === undefined);
    if (!sane || (guard !== undefined && this.#refuses(guard, frame, end, now))) {
      this.#refused++;
      this.#publish();
      return;
    }
    if (vnet && !offloaded) memory.bytes.fill(0, header, frame);
    const from = vnet ? header : frame;
    if (libc.write(this.#tap, at(memory.address + from), end - from) >= 0) {
      const stats = this.#stats;
      const frames = this.#base + COUNTER.framesIn;
      const bytes = this.#base + COUNTER.bytesIn;
      stats[frames] = (stats[frames] ?? 0) + 1;
      stats[bytes] = (stats[bytes] ?? 0) + end - frame;
      return;
    }
    // A TAP that is down says EIO; one whose host is short of memory ENOMEM or ENOBUFS: frames get lost on networks.
    if (errno() === EBADFD) {
      this.close("the TAP is gone", now);
    } else {
      this.#lost++;
      this.#publish();
    }
  }

  #refuses(guard: Uint8Array, frame: number, end: number, now: number): boolean {
    const { bytes } = this.#in.memory;
    if (refusal(bytes, frame, end - frame, guard) !== undefined) return true;
    return ((bytes[frame] ?? 0) & 1) !== 0 && !this.#groups.allows(now);
  }

  #ping(now: number): void {
    this.#pinged = now;
    // Those of a probe come too often to tell how the path is.
    const stamp = this.#pings.send(now, this.#out.window?.phase !== "probe");
    this.#out.ping(TYPE.ping, Math.floor(stamp / 0x1_0000_0000), stamp >>> 0);
    this.#publishPings();
    this.#flush(now);
  }

  /** Only answers to our own pings count, each once: the peer could send any number. */
  #pong(offset: number, now: number): void {
    const { bytes } = this.#in.memory;
    const rtt = this.#pings.answered(
      readU32(bytes, offset) * 0x1_0000_0000 + readU32(bytes, offset + 4),
      now,
    );
    if (rtt === undefined) return;
    this.#stats[this.#base + COUNTER.rtt] = rtt;
    this.#publishPings();
    this.#out.window?.measured(rtt, now);
  }

  #publishPings(): void {
    this.#stats[this.#base + COUNTER.pings] = this.#pings.count;
    this.#stats[this.#base + COUNTER.late] = this.#pings.late;
    this.#stats[this.#base + COUNTER.loss] = this.#pings.loss;
  }

  #flush(now: number): void {
    const stream = this.#stream;
    const before = this.#left;
    const broken = stream.flush();
    const n = broken < 0 ? broken : this.#out.flush(stream, now);
    this.#left = stream.left;
    if (this.#left !== before || this.#idle) this.#progress = now;
    this.#idle = !this.#waiting;
    if (n < 0) {
      // The peer is gone, but perhaps it said why before it went.
      while (this.reason === undefined && this.#readStream(now));
      this.#broken(`the stream broke (${errnoName(-n)})`);
    } else if (this.reason !== undefined && this.#idle && stream.shut()) this.#finish();
  }

  #malformed(problem: string, now: number): void {
    this.close(`the peer sent ${problem}`, now);
  }

  /** The stream is of no more use: there is nobody to tell. */
  #broken(reason: string): void {
    this.reason ??= reason;
    this.#finish();
  }

  #finish(): void {
    if (this.over) return;
    this.#publish();
    this.#out.dispose();
    this.#in.giveBack(true);
    this.#closeTap();
    try {
      this.#stream.shut();
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
    stats[this.#base + COUNTER.framesOut] = this.#out.framesOut;
    stats[this.#base + COUNTER.bytesOut] = this.#out.bytesOut;
    stats[this.#base + COUNTER.dropped] = this.#out.dropped + this.#lost;
    stats[this.#base + COUNTER.refused] = this.#refused;
    stats[this.#base + COUNTER.marked] = this.#out.marked;
    stats[this.#base + COUNTER.queued] = this.#out.queued;
    stats[this.#base + COUNTER.queueDelay] = this.#out.queueDelay;
    stats[this.#base + COUNTER.rekeys] = this.#stream.rekeys;
    const { window } = this.#out;
    if (window === undefined) return;
    stats[this.#base + COUNTER.window] = window.size;
    stats[this.#base + COUNTER.rate] = window.rate;
    stats[this.#base + COUNTER.minRtt] = Number.isFinite(window.minRtt) ? window.minRtt : 0;
    stats[this.#base + COUNTER.inFlight] = window.inFlight;
  }
}

function streamOf({ stream, ssh, rekeyLimit = REKEY_LIMIT }: AddOrder): Stream {
  if (ssh === undefined) return new SocketStream(stream);
  return new ChannelStream(stream, decodeState(memoryAt(ssh.address, ssh.length)), rekeyLimit * MIB);
}
