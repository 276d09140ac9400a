/** The counters of a link: the one table from which shared memory, status, totals and metrics are made. */

/** What a counter means. */
export interface Counter {
  /**
   * `sum`: it counts up from the beginning of the link, and is added up over all tunnels of a device. `now`:
   * its current value; 0 means "not known", except in `queued` and `inFlight`.
   */
  readonly kind: "sum" | "now";
  readonly unit: "frames" | "bytes" | "ms" | "pings" | "share" | "bytes/s" | "times" | "lanes";
  /**
   * What is counted, as Prometheus shows it. Names with "In" count what comes from the peer, that is from
   * stream to TAP.
   */
  readonly help: string;
}

const sum = (unit: Counter["unit"], help: string) => ({ kind: "sum", unit, help }) as const;
const now = (unit: Counter["unit"], help: string) => ({ kind: "now", unit, help }) as const;

export const LINK_COUNTERS = {
  framesIn: sum("frames", "Frames from the peer."),
  framesOut: sum("frames", "Frames to the peer."),
  bytesIn: sum("bytes", "Bytes of frames from the peer."),
  bytesOut: sum("bytes", "Bytes of frames to the peer."),
  dropped: sum("frames", "Frames dropped: no room, too old, to slow a flow down, or the TAP is down."),
  refused: sum("frames", "Frames from the peer that the guard refused."),
  marked: sum("frames", "Frames marked as congested (ECN) instead of dropped."),
  pings: sum("pings", "PINGs that were answered or given up."),
  late: sum("pings", "PINGs that were answered late or not at all."),
  rekeys: sum("times", "Key exchanges on the connection."),
  rtt: now("ms", "Round trip time through the tunnel."),
  minRtt: now("ms", "Least round trip time in the last 10 s or so."),
  loss: now("share", "Share of late PINGs in the last minutes, 0 to 1."),
  queued: now("bytes", "Bytes that wait in the queue to the peer."),
  queueDelay: now("ms", "How long frames wait in that queue."),
  window: now("bytes", "Bytes that may be in flight to the peer; 0 if the peer does not acknowledge."),
  inFlight: now("bytes", "Bytes that are in flight to the peer."),
  lanes: now("lanes", "Connections that the tunnel consists of."),
  rate: now("bytes/s", "The best rate of the path in the last seconds."),
} as const satisfies Record<string, Counter>;

/** Name of a counter. */
export type CounterName = keyof typeof LINK_COUNTERS;

/** All names, in the order in which the counters of a link are in the shared memory. */
export const COUNTER_NAMES = Object.keys(LINK_COUNTERS) as CounterName[];
/** Where, behind the counters of a link, the main thread counts the bytes of messages that it has taken. */
export const TAKEN = COUNTER_NAMES.length;
/** Doubles of a link in the shared memory. */
export const COUNTERS = TAKEN + 1;
/** The index of each counter, from the first counter of its link. */
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])) as Record<
  CounterName,
  number
>;

/** The counters of one link since it began. */
export type LinkStats = Record<CounterName, number>;

/** Name of a counter that is added up over all tunnels of a device. */
export type SummedName = {
  [Name in CounterName]: (typeof LINK_COUNTERS)[Name]["kind"] extends "sum" ? Name : never;
}[CounterName];
/** All of those names. */
export const SUMMED = COUNTER_NAMES.filter((name): name is SummedName => LINK_COUNTERS[name].kind === "sum");

/** Read the counters of a link from the shared memory. @param base index of its first counter. */
export function readCounters(memory: Float64Array, base: number): LinkStats {
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, memory[base + i] ?? 0])) as LinkStats;
}
