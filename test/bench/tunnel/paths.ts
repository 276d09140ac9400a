/** The paths of `bench:tunnel`, and what is aimed at on each. */

import { LANES_MAX } from "../../../src/tunnel/message.ts";
import { type PathModel, pathModels } from "../../tunnel/send/paths/models.ts";

/** Ratios that are aimed at; what is left out is not judged. */
export interface Limits {
  /** Goodput each way, at least, against the nested ssh pipe, `ssh -w` and the plain loop. */
  readonly pipe?: number;
  readonly sshW?: number;
  readonly loop?: number;
  /** Processor time per GB, at most, against the pipe. */
  readonly cpu?: number;
  /** p99 of a ping under bulk, at most, against the idle one. */
  readonly ping?: number;
  /** The same against the plain loop's under bulk. */
  readonly pingLoop?: number;
  /** p99 of a ping under bulk, at most, ms. */
  readonly pingMs?: number;
  /** Round trip added to the bare path, at most, ms. */
  readonly added?: number;
  /** Time until the full rate is there again after nothing came for a second or more, at most, s. */
  readonly recovery?: number;
  /** Memory of the device's process, at most, MB. */
  readonly memory?: number;
}

export interface BenchPath {
  readonly name: string;
  readonly words: string;
  /** What is between device and proxy; undefined: as fast as the machine. */
  readonly model?: PathModel;
  /** No proxy. */
  readonly direct?: boolean;
  /** How long bulk flows, s. */
  readonly seconds: number;
  /** How many TCP flows bulk consists of, but in the pipe, which is one stream (1). */
  readonly flows?: number;
  /** How many lanes the tunnel has. */
  readonly lanes: number;
  /** Bulk down is measured, too. */
  readonly down: boolean;
  /** Frames of 60 bytes are measured, too. */
  readonly small: boolean;
  /** s between pings. */
  readonly every: number;
  /** Variants that are measured besides the tunnel. */
  readonly beside: readonly Beside[];
  readonly limits: Limits;
}

type Beside = "bare" | "pipe" | "ssh -w" | "loop";

const FAST: Omit<BenchPath, "name" | "words"> = {
  ...{ seconds: 3, lanes: 1, down: true, small: true, every: 0.02, beside: ["pipe", "ssh -w", "loop"] },
  limits: { pipe: 1.3, sshW: 8, loop: 3, cpu: 0.9, added: 0.6, pingMs: 10, memory: 80 },
};

/** What is different on a path of a model: by name, or the beginning of a name. */
const MODELS: Record<string, Partial<BenchPath>> = {
  "20mbit": { beside: ["bare", "pipe", "loop"], limits: { pipe: 0.95, loop: 0.9, ping: 1.4 } },
  jitter: { limits: { loop: 0.9, ping: 1.5 } },
  burst: { limits: { loop: 0.9, ping: 1.5 } },
  sine: { down: false, limits: { loop: 0.9, ping: 3 } },
  steps: { seconds: 15, down: false, limits: { loop: 0.9, ping: 3 } },
  mobile: { seconds: 15, down: false, limits: { loop: 0.9, ping: 3 } },
  "outage-0.5": { seconds: 10, down: false, limits: { loop: 0.9 } },
  "outage-3": { seconds: 11, down: false, limits: { recovery: 1 } },
  adsl: { limits: { loop: 0.9 } },
  satellite: { seconds: 12, down: false, every: 0.05, limits: { loop: 0.9, ping: 1.5 } },
  policer: { limits: { loop: 0.9 } },
  long: {
    seconds: 12,
    flows: 4,
    lanes: LANES_MAX,
    beside: ["bare", "pipe"],
    every: 0.05,
    limits: { pipe: 3, ping: 1.5 },
  },
  "2mbit": {
    seconds: 20,
    lanes: LANES_MAX,
    down: false,
    every: 0.05,
    beside: ["pipe"],
    limits: { pipe: 1.8, ping: 1.25 },
  },
  "loss-0.1": { lanes: LANES_MAX, beside: ["pipe", "loop"], limits: { ping: 1.5 } },
  "loss-3": {
    lanes: LANES_MAX,
    down: false,
    beside: ["pipe", "loop"],
    limits: { pipe: 2, ping: 1.5 },
  },
  foreign: { down: false, limits: { loop: 0.9, pingLoop: 0.5 } },
  "foreign-queue": { seconds: 15, down: false, limits: { loop: 0.9 } },
};

/** All paths in the order in which they are measured. @param seed for what is random in them. */
export function benchPaths(seed: number): readonly BenchPath[] {
  const models = pathModels(seed).map((model) => {
    const { name, words } = model;
    const own = MODELS[name] ?? MODELS[name.split("-")[0] ?? ""];
    const ordinary: BenchPath = {
      ...{
        name,
        words,
        model,
        seconds: 8,
        lanes: 1,
        down: true,
        small: false,
        every: 0.02,
        beside: ["loop"],
        limits: {},
      },
    };
    return { ...ordinary, ...own };
  });
  return [
    { name: "unshaped", words: "as fast as the machine", ...FAST },
    { name: "direct", words: "as fast as the machine, no proxy", direct: true, ...FAST },
    ...models,
  ];
}
