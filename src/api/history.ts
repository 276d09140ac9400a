/** What a node's tunnel was like over time, as commands and pages see it. */

import { Fields } from "../parse.ts";

/**
 * The two histories: the length of a sample, seconds, and how many samples are kept. An hour at 10 s, and 30
 * days at 10 minutes.
 */
export const SPANS = {
  hour: { step: 10, samples: 360 },
  month: { step: 600, samples: 4320 },
} as const;

export type Span = keyof typeof SPANS;

const SPAN_NAMES = Object.keys(SPANS) as Span[];

/** What a sample has. */
export const SERIES = ["up", "rtt", "loss", "receive", "transmit"] as const;
export type Series = (typeof SERIES)[number];

/** The overview of all nodes: 60 samples of a minute. */
export const OVERVIEW = { step: 60, samples: 60 } as const;

/** Which history of which node. */
export function parseHistoryWanted(f: Fields) {
  return {
    node: f.words("node"),
    span: f.has("span") ? f.choice("span", SPAN_NAMES) : "hour",
  };
}

/** A node's history: arrays of the same length, a value for each sample, the oldest first. */
export type History = ReturnType<typeof parseHistory>;

export function parseHistory(f: Fields) {
  const series = (key: Series, max: number): (number | null)[] =>
    f
      .array(key, SPANS.month.samples)
      .map((one) => (one === null ? null : new Fields({ [key]: one }, f.where).number(key, 0, max)));
  return {
    node: f.words("node"),
    /** Seconds from one sample to the next. */
    step: f.integer("step", 1, 86_400),
    /** When the first sample began. */
    from: f.time("from"),
    /** The share of the time in which the tunnel was up, 0 to 1; null while the server did not run. */
    up: series("up", 1),
    /** Round trip through the tunnel, ms; null where none is known. */
    rtt: series("rtt", Number.MAX_SAFE_INTEGER),
    /** The share of late or unanswered PINGs, 0 to 1. */
    loss: series("loss", 1),
    /** Bytes of frames a second from the node, and to it. */
    receive: series("receive", Number.MAX_SAFE_INTEGER),
    transmit: series("transmit", Number.MAX_SAFE_INTEGER),
  };
}
