/** The counters of a link: the one table from which shared memory, status, totals and metrics are made. */

export interface Counter {
  /**
   * `sum`: counts up, and is added up over all tunnels of a device. `now`: a reading of this moment, whose 0 means "not known"
   * (but for `queued` and `inFlight`, which may be 0).
   */
  readonly kind: "sum" | "now";
  readonly unit: "frames" | "bytes" | "ms" | "pings" | "share" | "bytes/s" | "times";
  /** What is counted, as Prometheus shows it. "In" is from the stream to the TAP: from the peer. */
  readonly help: string;
}

const sum = (unit: Counter["unit"], help: string) => ({ kind: "sum", unit, help }) as const;
const now = (unit: Counter["unit"], help: string) => ({ kind: "now", unit, help }) as const;

export const LINK_COUNTERS = {
  framesIn: sum("frames", "Frames from the peer."),
  framesOut: sum("frames", "Frames to the peer."),
  bytesIn: sum("bytes", "Bytes of frames from the peer."),
  bytesOut: sum("bytes", "Bytes of frames to the peer."),
  dropped: sum("frames", "Frames dropped for want of room, to slow a flow down, or because the TAP is down."),
  refused: sum("frames", "Frames from the peer that it may not send."),
  marked: sum("frames", "Frames marked as congested (ECN) instead of dropped."),
  pings: sum("pings", "PINGs that were answered or given up."),
  late: sum("pings", "PINGs that were answered late or not at all."),
  rekeys: sum("times", "Key exchanges on the connection."),
  rtt: now("ms", "Round trip time through the tunnel."),
  minRtt: now("ms", "Least round trip time lately."),
  loss: now("share", "Share of late PINGs lately, 0 to 1."),
  queued: now("bytes", "Bytes that wait in the queue to the peer."),
  queueDelay: now("ms", "How long frames wait in that queue."),
  window: now("bytes", "Bytes that may be under way to the peer; 0 with a peer that does not acknowledge."),
  inFlight: now("bytes", "Bytes that are under way to the peer."),
  rate: now("bytes/s", "What the path gave at best lately."),
} as const satisfies Record<string, Counter>;

export type CounterName = keyof typeof LINK_COUNTERS;

/** In the order in which they lie in the shared memory. */
export const COUNTER_NAMES = Object.keys(LINK_COUNTERS) as CounterName[];
/** Doubles of a link's place in the shared memory. */
export const COUNTERS = COUNTER_NAMES.length;
/** The place of each counter, in doubles from the beginning of the link's. */
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])) as Record<
  CounterName,
  number
>;

/** The counters of one link since it began. */
export type LinkStats = Record<CounterName, number>;

/** The counters that are added up over all tunnels of a device. */
export type SummedName = {
  [Name in CounterName]: (typeof LINK_COUNTERS)[Name]["kind"] extends "sum" ? Name : never;
}[CounterName];
export const SUMMED = COUNTER_NAMES.filter((name): name is SummedName => LINK_COUNTERS[name].kind === "sum");

/** The counters of the link whose place begins at `base`. */
export function readCounters(memory: Float64Array, base: number): LinkStats {
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, memory[base + i] ?? 0])) as LinkStats;
}
