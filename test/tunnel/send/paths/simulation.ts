/**
 * A tunnel in one direction over a simulated path: a sender that always has more to send and keeps to a window,
 * TCP below it in both directions, a receiver that acknowledges as `receive/receiver.ts` does, and PINGs.
 */

import { Line } from "./line.ts";
import type { PathModel } from "./models.ts";
import { Tcp, type Wires } from "./tcp.ts";

/** What the simulation needs of a window. */
export interface WindowLike {
  readonly size: number;
  readonly inFlight: number;
  readonly phase: string;
  /** Bytes that may be sent now, if that is less than the window has left. */
  readonly room?: number;
  readonly wait?: number;
  readonly emptyRtt?: number;
  readonly minRtt?: number;
  refill?(now: number): void;
  sent(bytes: number, more: boolean, now: number): void;
  acked(total: number, delay: number, now: number): boolean;
  measured(rtt: number, now: number): void;
  tick?(now: number): void;
  readonly rate: number;
}

export interface Outcome {
  /** Bytes of frames that arrived, per ms of the time that was measured. */
  readonly goodput: number;
  /** Bytes of the foreign flow that arrived, per ms. */
  readonly foreign: number;
  /** Round trip times of PINGs, ms, ascending. One that was not answered counts as the time it waited. */
  readonly pings: readonly number[];
  /** Bytes of frames that had arrived by the end of each 100 ms. */
  readonly arrived: readonly number[];
}

export interface Options {
  readonly seed: number;
  /** How long, ms. */
  readonly ms: number;
  /** What happens before, ms, is not measured. */
  readonly from: number;
  /** Undefined: no frame is sent, so that the path is idle. */
  readonly window?: WindowLike | undefined;
  /** The frames are those of a TCP flow, which begins anew every so many ms. 0 = there is always a frame. */
  readonly inner?: number;
  /** Before this, ms, no frame is sent (0) … */
  readonly lead?: number;
  /** … and for so many ms of that the foreign flow is there already (0). */
  readonly ahead?: number;
  /** Direction of the frames. */
  readonly way: "up" | "down";
  /** Called every 100 ms. */
  readonly look?: (now: number) => void;
}

/** As in receive/receiver.ts. */
const ACK_BYTES = 262_144;
const ACK_SOME = 3000;
const ACK_PAUSE = 1;
const ACK_LAST = 5;
/** Bytes of a PING, PONG or ACK with the headers of two connections of SSH. */
const CONTROL = 100;
/** ms between PINGs, or a tenth of the round trip time if that is longer. No multiple of a model's period. */
const PING_EVERY = 21;
/** The longest packet of SSH, bytes. */
const PACKET = 32_768;
/** As in send/sender.ts. */
const SLICE_TIME = 2;
const SLICE_MIN = 2048;
const SLICE_MAX = 65_536;

type Message =
  | { kind: "frames"; bytes: number; arrive: ((now: number) => void)[] }
  | { kind: "inner-ack"; arrive: (now: number) => void }
  | { kind: "ping" | "pong"; at: number }
  | { kind: "ack"; total: number; delay: number };

/** A queue of what happens later on a line: in order of time. */
interface Coming {
  at: number;
  then: (now: number) => void;
}

export function simulate(path: PathModel, o: Options): Outcome {
  const { window } = o;
  const there = path[o.way];
  const back = path[o.way === "up" ? "down" : "up"];
  const lines = [new Line(there, o.seed), new Line(back, o.seed + 1)] as const;
  const coming: [Coming[], Coming[]] = [[], []];
  const heads = [0, 0];
  const over =
    (i: 0 | 1) =>
    (bytes: number, now: number, then: (now: number) => void): void => {
      const at = lines[i].send(bytes, now);
      if (at !== undefined) coming[i].push({ at, then });
    };
  const forwards: Wires = { data: over(0), ack: over(1) };
  const backwards: Wires = { data: over(1), ack: over(0) };

  let now = 0;
  const begin = o.lead ?? 0;
  const pingEvery = Math.max(PING_EVERY, (there.delay(0) + back.delay(0)) / 10);
  let [received, unacked, unackedFirst, unackedLast, ackTime] = [0, 0, 0, 0, 0];
  let receivedFrom = 0;
  const pings: number[] = [];
  const open = new Set<number>();
  const arrived: number[] = [];

  const ackDue = (): number => {
    if (unacked === 0) return Number.POSITIVE_INFINITY;
    return unacked >= ACK_SOME ? ackTime + ACK_PAUSE : unackedFirst + ACK_LAST;
  };
  const acknowledge = (): void => {
    if (unacked === 0 || (unacked < ACK_BYTES && now < ackDue())) return;
    answers.write(CONTROL, { kind: "ack", total: received, delay: now - unackedLast }, now);
    unacked = 0;
    ackTime = now;
  };
  const tunnel = new Tcp<Message>(forwards, (message) => {
    if (message.kind === "frames") {
      for (const arrive of message.arrive) arrive(now);
      received += message.bytes;
      if (unacked === 0) unackedFirst = now;
      unackedLast = now;
      unacked += message.bytes;
      acknowledge();
    } else if (message.kind === "ping") {
      answers.write(CONTROL, { kind: "pong", at: message.at }, now);
    }
  });
  const answers = new Tcp<Message>(backwards, (message) => {
    if (message.kind === "ack") {
      if (window?.acked(message.total % 0x1_0000_0000, message.delay, now) === false)
        throw new Error(`an acknowledgement of ${message.total} bytes was refused`);
    } else if (message.kind === "inner-ack") {
      message.arrive(now);
    } else if (message.kind === "pong") {
      open.delete(message.at);
      if (message.at >= o.from) pings.push(now - message.at);
      // Only the PINGs of the link itself are shown to the window.
      if (message.at % 2000 < pingEvery || window?.phase === "probe") window?.measured(now - message.at, now);
    }
    commit();
  });
  const queue = new Queue();
  const take = (): { bytes: number; arrive?: (now: number) => void } | undefined => {
    if (o.inner !== undefined) return queue.pop(now, window?.emptyRtt ?? window?.minRtt);
    return { bytes: Math.round(Math.min(SLICE_MAX, Math.max(SLICE_MIN, (window?.rate ?? 0) * SLICE_TIME))) };
  };
  const commit = (): void => {
    if (window === undefined || now < begin) return;
    window.refill?.(now);
    for (;;) {
      // Frames that are sent at a time share packets of SSH. None of a packet arrives before its last byte.
      const room = window.room ?? window.size - window.inFlight;
      const arrive: ((now: number) => void)[] = [];
      let bytes = 0;
      while (bytes < Math.min(room, PACKET - SLICE_MIN)) {
        const frame = take();
        if (frame === undefined) break;
        bytes += frame.bytes;
        if (frame.arrive !== undefined) arrive.push(frame.arrive);
      }
      if (bytes === 0) break;
      window.sent(bytes, o.inner === undefined || queue.length > 0, now);
      tunnel.write(bytes, { kind: "frames", bytes, arrive }, now);
    }
  };
  const makeInner = (): Tcp<never> =>
    new Tcp<never>(
      {
        data: (bytes, _, arrive) => queue.push({ bytes, arrive, since: now }),
        ack: (bytes, _, arrive) => answers.write(bytes, { kind: "inner-ack", arrive }, now),
      },
      () => {},
    );
  let inner = makeInner();
  // So that different seeds make different paths here, too.
  let foreignStart =
    path.foreign === undefined ? Number.POSITIVE_INFINITY : begin - (o.ahead ?? 0) + 37 * (o.seed % 32);
  let nextFlow = o.inner === undefined ? Number.POSITIVE_INFINITY : begin;
  const foreign = new Tcp<never>(path.foreign === o.way ? forwards : backwards, () => {});
  const flows = [tunnel, answers, foreign, inner];
  let [nextPing, nextLook, foreignFrom] = [0, 100, 0];

  if (o.inner === undefined) commit();

  while (now < o.ms) {
    const a = coming[0][heads[0] ?? 0];
    const b = coming[1][heads[1] ?? 0];
    if (foreignStart <= now) {
      foreign.flood(now);
      foreignStart = Number.POSITIVE_INFINITY;
    }
    if (nextFlow <= now && window !== undefined && o.inner !== undefined) {
      // The flow before has ended, and what is still under way of it does not matter.
      inner = makeInner();
      flows[3] = inner;
      queue.clear();
      inner.flood(now);
      nextFlow += o.inner;
    }
    if (o.inner !== undefined) commit();
    const idle = o.inner !== undefined && queue.length === 0;
    const begins = now < begin ? begin : Number.POSITIVE_INFINITY;
    const opens = idle ? Number.POSITIVE_INFINITY : now + (window?.wait ?? Number.POSITIVE_INFINITY);
    const flowStarts = window === undefined ? Number.POSITIVE_INFINITY : nextFlow;
    let next = Math.min(
      foreignStart,
      a?.at ?? o.ms,
      b?.at ?? o.ms,
      nextPing,
      nextLook,
      flowStarts,
      ackDue(),
      begins,
      opens,
    );
    for (const flow of flows) next = Math.min(next, flow.timer);
    if (next >= o.ms) break;
    if (now < o.from && next >= o.from) {
      receivedFrom = received;
      foreignFrom = foreign.delivered;
    }
    now = Math.max(now, next);
    if (a !== undefined && a.at <= now) {
      heads[0] = (heads[0] ?? 0) + 1;
      a.then(now);
    } else if (b !== undefined && b.at <= now) {
      heads[1] = (heads[1] ?? 0) + 1;
      b.then(now);
    } else if (nextPing <= now) {
      window?.tick?.(now);
      commit();
      open.add(now);
      tunnel.write(CONTROL, { kind: "ping", at: now }, now);
      nextPing += pingEvery;
    } else if (nextLook <= now) {
      arrived.push(received);
      o.look?.(now);
      nextLook += 100;
      for (const i of [0, 1] as const) {
        coming[i].splice(0, heads[i]);
        heads[i] = 0;
      }
    } else if (ackDue() <= now) acknowledge();
    else if (flows.some((flow) => flow.timer <= now))
      for (const flow of flows) {
        if (flow.timer <= now) flow.expire(now);
      }
    else commit();
  }
  for (const at of open) if (at >= o.from && at < o.ms - 1000) pings.push(o.ms - at);
  return {
    goodput: (received - receivedFrom) / (o.ms - o.from),
    foreign: (foreign.delivered - foreignFrom) / (o.ms - o.from),
    pings: pings.toSorted((x, y) => x - y),
    arrived,
  };
}

interface Frame {
  readonly bytes: number;
  readonly arrive: (now: number) => void;
  /** When it began to wait, ms. */
  readonly since: number;
}

/** The queue of one flow with CoDel as in send/fair-queue.ts; without it as long as that of a TAP. */
class Queue {
  #frames: Frame[] = [];
  #standsAt = 0;
  #dropNext = Number.POSITIVE_INFINITY;
  #count = 0;

  get length(): number {
    return this.#frames.length;
  }

  clear(): void {
    this.#frames = [];
  }

  push(frame: Frame): void {
    if (this.#frames.length < 1000) this.#frames.push(frame);
  }

  /** @param rtt round trip time for CoDel's target and interval, ms; undefined: there is no CoDel. */
  pop(now: number, rtt: number | undefined): Frame | undefined {
    const frame = this.#frames.shift();
    if (frame === undefined || rtt === undefined || rtt === Number.POSITIVE_INFINITY) return frame;
    const interval = 300 + 2 * rtt;
    if (now - frame.since < 100 + rtt || this.#frames.length < 2) {
      this.#standsAt = 0;
      this.#dropNext = Number.POSITIVE_INFINITY;
      return frame;
    }
    if (this.#standsAt === 0) {
      this.#standsAt = now + interval;
      return frame;
    }
    if (now < this.#standsAt) return frame;
    if (this.#dropNext === Number.POSITIVE_INFINITY) this.#count = 0;
    else if (now < this.#dropNext) return frame;
    this.#count++;
    this.#dropNext = now + interval / Math.sqrt(this.#count);
    return this.pop(now, rtt);
  }
}

/** A window that never changes: what a loop has that only stops when its pipe is full. */
export function fixedWindow(size: number): WindowLike {
  let [sent, acked] = [0, 0];
  return {
    size,
    rate: 0,
    phase: "steady",
    get inFlight(): number {
      return sent - acked;
    },
    sent: (bytes) => {
      sent += bytes;
    },
    acked: (total) => {
      acked = total;
      return true;
    },
    measured: () => {},
    tick: () => {},
  };
}
