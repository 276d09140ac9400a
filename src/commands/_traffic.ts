/** The counters of a tunnel as rows of a table, for people. */

import { size } from "../text.ts";
import type { LinkStats } from "../tunnel/counters.ts";

/** @param other who is at the other end of this one's tunnel: "node" or "server". */
export function trafficRows(t: LinkStats, other: string): [what: string, value: string][] {
  const ms = (value: number): string => (value === 0 ? "-" : `${value.toFixed(1)} ms`);
  return [
    [`from the ${other}`, `${t.framesIn} frames, ${size(t.bytesIn)}`],
    [`to the ${other}`, `${t.framesOut} frames, ${size(t.bytesOut)}`],
    ["dropped", `${t.dropped} frames`],
    ["marked", `${t.marked} frames`],
    ["refused", `${t.refused} frames`],
    ["queue", `${size(t.queued)}, ${t.queueDelay.toFixed(1)} ms`],
    ["round trip", `${ms(t.rtt)}, minimum ${ms(t.minRtt)}`],
    [
      "late pings",
      t.pings === 0 ? "-" : `${(100 * t.loss).toFixed(1)} % lately; ${t.late} of ${t.pings} in all`,
    ],
    ["window", t.window === 0 ? "-" : `${size(t.window)}, ${size(t.inFlight)} in flight`],
    ["lanes", t.lanes === 0 ? "-" : String(t.lanes)],
    ["key exchanges", String(t.rekeys)],
    ["rate", t.rate === 0 ? "-" : `${((t.rate * 8) / 1e6).toFixed(1)} Mbit/s`],
  ];
}
