/**
 * Models of bad links, by name: for the shaper of `bench:tunnel`, and for the simulation beside this file. A
 * model is two lines, one for each direction, and what else happens on the path. The same seed makes the same
 * path.
 *
 * Rates are in bytes per ms, times in ms, shares from 0 to 1.
 */

import { chance } from "../../rig.ts";

/** One direction. What is left out does not happen. */
export interface LineModel {
  /** Bytes per ms at a time; 0 = nothing passes; infinite = as fast as it goes. */
  readonly rate: (now: number) => number;
  /** Each packet arrives this much later, ms, whatever happens to it besides. */
  readonly delay: (now: number) => number;
  /** Bytes that may wait. What does not fit is dropped. */
  readonly queue: number;
  /** Each packet is delayed by 0 to `jitter` ms more, evenly distributed. None overtakes another. */
  readonly jitter?: number;
  /** Packets arrive only every `burst` ms, give or take a quarter, then all at once. */
  readonly burst?: number;
  /** Nothing arrives for 0 to `length` ms, on average every `every` ms; then all at once. */
  readonly pauses?: { readonly every: number; readonly length: number };
  /** Share of packets that are lost. */
  readonly loss?: number;
  /** A token bucket: bytes per ms on average, and bytes at once. What exceeds it is dropped. */
  readonly police?: { readonly rate: number; readonly bucket: number };
}

export interface PathModel {
  readonly name: string;
  /** For people: what the path is. */
  readonly words: string;
  /** From the device. */
  readonly up: LineModel;
  /** To the device. */
  readonly down: LineModel;
  /** A foreign TCP flow that shares the path, in this direction. */
  readonly foreign?: "up" | "down";
}

/** Bytes per ms. */
export const mbits = (rate: number): number => (rate * 1e6) / 8 / 1000;
const always =
  (value: number): (() => number) =>
  () =>
    value;

/** A line that does not change. @param rate Mbit/s. @param delay ms. @param queue bytes. */
function line(rate: number, delay: number, queue: number, more: Partial<LineModel> = {}): LineModel {
  return { rate: always(mbits(rate)), delay: always(delay), queue, ...more };
}

/** Both directions are the same. */
const both = (one: LineModel): { up: LineModel; down: LineModel } => ({ up: one, down: one });

/** A queue of 100 ms at 20 Mbit/s, bytes. */
const QUEUE = 250_000;
const ordinary = (more: Partial<LineModel> = {}): LineModel => line(20, 20, QUEUE, more);

/** The rate is 0 for `length` ms in every `period` ms, first after `first`. */
function outages(rate: number, length: number, period: number, first: number): (now: number) => number {
  return (now) => (now >= first && (now - first) % period < length ? 0 : mbits(rate));
}

/** Rates in steps of `length` ms, Mbit/s, over and over. */
function steps(rates: readonly number[], length: number): (now: number) => number {
  return (now) => mbits(rates[Math.floor(now / length) % rates.length] ?? 0);
}

/**
 * A rate like that of a mobile network on the move: every 100 ms it changes by up to a third, between 1 and 40
 * Mbit/s, and now and then there is nothing for 100 to 500 ms. A minute of it, over and over.
 */
function mobile(seed: number): (now: number) => number {
  const random = chance(seed * 7919 + 17);
  for (let i = 0; i < 16; i++) random(2);
  const rates: number[] = [];
  let rate = 12;
  while (rates.length < 600) {
    rate = Math.min(40, Math.max(1, rate * 1.35 ** ((random(2001) - 1000) / 1000)));
    if (random(100) === 0) for (let i = 1 + random(5); i > 0; i--) rates.push(0);
    rates.push(rate);
  }
  return steps(rates, 100);
}

const sine = (now: number): number => mbits(20 * (1 + 0.8 * Math.sin((2 * Math.PI * now) / 4000)));
/** From 8 s to 16 s, and again every 16 s, somebody else's queue of 1 s is in front. */
const foreignQueue = (now: number): number => (now % 16_000 >= 8000 ? 1020 : 20);

/** The model of that name. @throws Error when there is none. */
export function pathModel(name: string, seed: number): PathModel {
  const models = pathModels(seed);
  const found = models.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no path ${name}: ${models.map((one) => one.name).join(", ")}`);
  return found;
}

/** All models. @param seed for what is random in them. */
export function pathModels(seed: number): readonly PathModel[] {
  const trace = mobile(seed);
  return [
    {
      name: "open",
      words: "as fast as the wire goes",
      ...both(line(Number.POSITIVE_INFINITY, 0, 16_000_000)),
    },
    { name: "20mbit", words: "20 Mbit/s, 40 ms", ...both(ordinary()) },
    ...[10, 20, 40].map((jitter) => ({
      name: `jitter-${jitter}`,
      words: `20 Mbit/s, 40 ms, jitter of ${jitter} ms in order`,
      ...both(ordinary({ jitter })),
    })),
    ...[5, 20].map((burst) => ({
      name: `burst-${burst}`,
      words: `20 Mbit/s, 40 ms, bursts every ${burst} ms`,
      ...both(ordinary({ burst })),
    })),
    ...[40, 100].map((length) => ({
      name: `pauses-${length}`,
      words: `20 Mbit/s, 40 ms, pauses of up to ${length} ms, 4 in a second`,
      ...both(ordinary({ pauses: { every: 250, length } })),
    })),
    {
      name: "busy",
      words: "20 Mbit/s, 40 ms, pauses of up to 40 ms, as if processors were busy",
      ...both(ordinary({ pauses: { every: 60, length: 40 } })),
    },
    { name: "sine", words: "20 Mbit/s ± 80 % in 4 s, 40 ms", ...both(ordinary({ rate: sine })) },
    {
      name: "steps",
      words: "20, 8, 16, 5 and 12 Mbit/s for 3 s each, 40 ms",
      ...both(ordinary({ rate: steps([20, 8, 16, 5, 12], 3000) })),
    },
    ...[500, 3000].map((length) => ({
      name: `outage-${length / 1000}`,
      words: `20 Mbit/s, 40 ms, nothing for ${length / 1000} s in every 10 s`,
      ...both(ordinary({ rate: outages(20, length, 10_000, 5000) })),
    })),
    {
      name: "mobile",
      words: "1 to 40 Mbit/s as in a moving car, 60 ms",
      ...both(line(0, 30, 500_000, { rate: trace })),
    },
    {
      name: "adsl",
      words: "1 Mbit/s up and 10 down, 40 ms, deep queues",
      up: line(1, 20, 128_000),
      down: line(10, 20, 600_000),
    },
    { name: "satellite", words: "10 Mbit/s, 600 ms", ...both(line(10, 300, 1_000_000)) },
    {
      name: "policer",
      words: "100 Mbit/s, policed to 10 Mbit/s, 40 ms",
      ...both(line(100, 20, QUEUE, { police: { rate: mbits(10), bucket: 64_000 } })),
    },
    { name: "long", words: "unshaped rate, 100 ms", ...both(line(Number.POSITIVE_INFINITY, 50, 16_000_000)) },
    { name: "40mbit", words: "40 Mbit/s, 20 ms, 0.5 % loss", ...both(line(40, 10, QUEUE, { loss: 0.005 })) },
    { name: "2mbit", words: "2 Mbit/s, 200 ms, 1 % loss", ...both(line(2, 100, 64_000, { loss: 0.01 })) },
    ...[0.1, 1, 3].map((percent) => ({
      name: `loss-${percent}`,
      words: `20 Mbit/s, 40 ms, ${percent} % loss`,
      ...both(ordinary({ loss: percent / 100 })),
    })),
    ...(["up", "down"] as const).map((foreign) => ({
      name: `foreign-${foreign}`,
      words: `20 Mbit/s, 40 ms, beside a foreign TCP flow ${foreign}`,
      foreign,
      ...both(ordinary()),
    })),
    {
      name: "foreign-queue",
      words: "20 Mbit/s, 40 ms, behind a foreign queue of 1 s in half of the time",
      ...both(ordinary({ delay: foreignQueue })),
    },
  ];
}
