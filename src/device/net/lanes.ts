/**
 * The further lanes of a tunnel: when they pay, each is opened with connections of its own to the proxies, so
 * that it has a TCP of its own all the way. They cost memory and processes here and at the proxies, so a path
 * that is short and clean has none.
 */

import { messageOf } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import type { LinkStats } from "../../tunnel/counters.ts";
import { LANES_MAX } from "../../tunnel/message.ts";
import type { Lane, Link } from "../../tunnel/pump-thread.ts";
import type { TunnelTransport } from "../route/tunnel-transport.ts";

/** ms between two looks at the path. */
const LOOK = 2000;
/** Share of late PINGs from which lanes pay, and so many PINGs must have told. */
const LOSS = 0.01;
const PINGS_MIN = 64;
/**
 * Bytes that a path holds from which lanes pay: half of the window that OpenSSH gives to a channel (2 MiB), which
 * limits each connection.
 */
const LONG = 1 << 20;
/** ms for which lanes stay when they do not pay any more. */
const STAY = 600_000;
/** ms until a lane that could not be opened, or ended, is tried again; doubled each time, up to the second. */
const RETRY = 5000;
const RETRY_MAX = 300_000;

/** What a lane needs besides its transport: its connections to the proxies. */
export interface LaneTransport {
  readonly transport: TunnelTransport;
  /** Resolves when a connection below the transport has ended. Never rejects. */
  readonly lost: Promise<void>;
  /** Close the connections below the transport. */
  close(): Promise<void>;
}

export interface LanesOptions {
  /** How many lanes the tunnel shall have, the first included; `auto`: as many as pay. */
  readonly wanted: number | "auto";
  readonly link: Link;
  readonly rekeyLimit: number;
  readonly log: Log;
  /** Open a transport for a lane. @throws an error with the reason. */
  open(signal: AbortSignal): Promise<LaneTransport>;
}

/** When the next lane may be opened. The times are ms of one clock. */
export class LanePause {
  /** How long the next pause is, ms. */
  next = RETRY;
  #until = Number.NEGATIVE_INFINITY;

  /** Whether a lane may be opened now. */
  isOver(now: number): boolean {
    return now >= this.#until;
  }

  /** A lane could not be opened, or has ended. Several that end together make one pause. */
  begin(now: number): void {
    if (!this.isOver(now)) return;
    this.#until = now + this.next;
    this.next = Math.min(RETRY_MAX, 2 * this.next);
  }

  /** A lane that was up has ended. If it lasted, whatever was wrong before is over. */
  ended(since: number, now: number): void {
    if (now - since >= RETRY_MAX) this.next = RETRY;
    this.begin(now);
  }
}

/**
 * Whether further lanes pay on a path.
 * @param moved bytes per second that came from the peer, or went to it, whichever are more.
 */
export function pays(stats: LinkStats, moved: number): boolean {
  const loses = stats.pings >= PINGS_MIN && stats.loss >= LOSS;
  return loses || (Math.max(stats.rate, moved) * stats.minRtt) / 1000 >= LONG;
}

/** Keep as many lanes as are wanted until `signal` is aborted. Resolves when all have ended. Never rejects. */
export async function keepLanes(o: LanesOptions, signal: AbortSignal): Promise<void> {
  if (!o.link.hasLanes || o.wanted === 1) return;
  const lanes = new Set<{ lane: Lane; over: Promise<void> }>();
  let paid = Number.NEGATIVE_INFINITY;
  const pause = new LanePause();
  let before = { ...o.link.stats(), time: performance.now() };
  while (!signal.aborted) {
    const stats = o.link.stats();
    const now = performance.now();
    const seconds = Math.max(0.001, (now - before.time) / 1000);
    // The window of the first lane does not tell of the further ones, over which most goes.
    const moved = Math.max(stats.bytesIn - before.bytesIn, stats.bytesOut - before.bytesOut);
    if (pays(stats, moved / seconds)) paid = now;
    before = { ...stats, time: now };
    const wanted = o.wanted === "auto" ? (now - paid < STAY ? LANES_MAX : 1) : o.wanted;
    if (wanted === 1) {
      for (const { lane } of lanes) lane.stop("the path needs no further lane");
    } else if (lanes.size < wanted - 1 && pause.isOver(now)) {
      try {
        const opened = await openLane(o, signal);
        lanes.add(opened);
        const since = performance.now();
        void opened.over.then(() => {
          lanes.delete(opened);
          pause.ended(since, performance.now());
        });
        continue; // the next one at once
      } catch (error) {
        if (signal.aborted) break;
        o.log.info("no further lane", { event: "lane-down", reason: messageOf(error), wait: pause.next });
        pause.begin(performance.now());
      }
    }
    await sleep(LOOK, signal);
  }
  for (const { lane } of lanes) lane.stop("the tunnel ends");
  await Promise.all([...lanes].map(({ over }) => over));
}

/** Open one lane. Resolves when it is up. @throws an error with the reason why it is not. */
async function openLane(o: LanesOptions, signal: AbortSignal): Promise<{ lane: Lane; over: Promise<void> }> {
  const { transport, lost, close } = await o.open(signal);
  const { stream, ssh } = transport;
  const { rekeyLimit, log } = o;
  let lane: Lane;
  try {
    lane = o.link.addLane({ stream, rekeyLimit, ...(ssh === undefined ? {} : { ssh }) });
  } catch (error) {
    await close();
    throw error;
  }
  const stop = (): void => lane.stop("the tunnel ends");
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  void lost.then(() => lane.stop("a connection below it ended"));
  const up = await Promise.race([lane.up.then(() => true as const), lane.ended]);
  const over = lane.ended.then(async (linkEnd) => {
    signal.removeEventListener("abort", stop);
    const { text } = await transport.explain(linkEnd, up === true, signal);
    await close();
    if (up === true) log.info("lane down", { event: "lane-down", reason: text });
    return text;
  });
  if (up !== true) throw new Error(await over);
  log.info("lane up", { event: "lane-up" });
  return { lane, over: over.then(() => {}) };
}
