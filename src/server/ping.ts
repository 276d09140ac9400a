/** Measures the parts of the way to a node at the same time: from its board to the proxies, to the board, to the node. */

import { type Pinged, PROBLEM_MAX } from "../api/ping.ts";
import type { Answer } from "../control/asker.ts";
import { HOPS_BYTES, parseHops } from "../control/hops.ts";
import type { Order } from "../control/orders.ts";
import { messageOf } from "../errors.ts";
import { LineCutter } from "../linux/lines.ts";
import { type RunResult, runAny } from "../linux/run.ts";
import { within } from "../linux/sleep.ts";
import { safeText } from "../text.ts";

/** ms between two rounds, and how long to wait for an answer. */
const PAUSE = 250;
const PATIENCE = 5000;
/** Bytes of an echo. */
const ECHO_BYTES = 8;

/** Orders that a device has under way at the same time for a ping. */
export const PING_ORDERS = 2;

export interface PingTarget {
  /** The entrypoint of its tunnel. */
  readonly via: string;
  /** Its address on walt-net, once known. */
  readonly address: string | null;
  /** Gives an order to its device. */
  give(order: Order): Promise<Answer>;
}

/** Programs that are run; tests pass others. */
export type Run = (command: readonly string[], options: { timeout: number }) => Promise<RunResult>;

/** Measure. What cannot be measured has a problem; it never throws. */
export async function pingParts(target: PingTarget, rounds: number, run: Run = runAny): Promise<Pinged[]> {
  const [proxies, tunnel, node] = await Promise.all([
    pingProxies(target, rounds),
    measured({ part: "tunnel", name: target.via }, () => pingDevice(target, rounds)),
    measured({ part: "node", name: target.address ?? "" }, () => pingNode(target, rounds, run)),
  ]);
  return [...proxies, tunnel, node];
}

const wordsOf = (error: unknown): string => safeText(messageOf(error), PROBLEM_MAX);

type Part = Pick<Pinged, "part" | "name">;

async function measured(part: Part, measure: () => Promise<(number | null)[]>): Promise<Pinged> {
  try {
    return { ...part, rtts: await measure(), problem: null };
  } catch (error) {
    return { ...part, rtts: [], problem: wordsOf(error) };
  }
}

async function pingProxies({ give, via }: PingTarget, rounds: number): Promise<Pinged[]> {
  try {
    const answer = await give({ order: "hops", rounds });
    try {
      const line = await inTime(firstLine(answer), rounds * PAUSE + 2 * PATIENCE);
      return parseHops(line).map((hop) => ({ part: "proxy", ...hop, problem: null }));
    } finally {
      answer.close();
    }
  } catch (error) {
    return [{ part: "proxy", name: via, rtts: [], problem: wordsOf(error) }];
  }
}

async function firstLine(answer: Answer): Promise<string> {
  const lines = new LineCutter(HOPS_BYTES);
  for (let bytes = await answer.read(); bytes !== undefined; bytes = await answer.read()) {
    const [line] = lines.push(bytes);
    if (line !== undefined) return line;
  }
  await answer.done;
  throw new Error("the device answered nothing");
}

/** Echoes of the device's supervisor. */
async function pingDevice({ give }: PingTarget, rounds: number): Promise<(number | null)[]> {
  const answer = await inTime(give({ order: "echo" }), PATIENCE);
  const rtts: (number | null)[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      if (round > 0) await Bun.sleep(PAUSE);
      const from = performance.now();
      await answer.write(new Uint8Array(ECHO_BYTES));
      await inTime(readBytes(answer, ECHO_BYTES), PATIENCE);
      rtts.push(performance.now() - from);
    }
  } finally {
    answer.close();
  }
  return rtts;
}

async function readBytes(answer: Answer, count: number): Promise<void> {
  for (let left = count; left > 0; ) {
    const bytes = await answer.read();
    if (bytes === undefined) return await answer.done;
    left -= bytes.length;
  }
}

/** ICMP, by ping(8), which needs no rights for it. */
async function pingNode(target: PingTarget, rounds: number, run: Run): Promise<(number | null)[]> {
  if (target.address === null) throw new Error("its address is not known");
  const seconds = Math.ceil((rounds * PAUSE + PATIENCE) / 1000);
  const words = ["-n", "-c", String(rounds), "-i", String(PAUSE / 1000), "-w", String(seconds)];
  const { status, stdout, stderr } = await run(["ping", ...words, target.address], {
    timeout: 1000 * seconds + PATIENCE,
  });
  if (status > 1) throw new Error(stderr.trim().split("\n")[0] || `ping ended with status ${status}`);
  return pingTimes(stdout, rounds);
}

/** The times in the output of ping(8), by the number of each. */
export function pingTimes(output: string, rounds: number): (number | null)[] {
  const times = Array.from({ length: rounds }, (): number | null => null);
  for (const [, number, time] of output.matchAll(/icmp_seq=(\d+) .*time=([\d.]+) ms/g)) {
    const index = Number(number) - 1;
    if (index >= 0 && index < rounds) times[index] ??= Number(time);
  }
  return times;
}

function inTime<T>(work: Promise<T>, ms: number): Promise<T> {
  return within(ms, work, new Error(`no answer within ${ms / 1000} s`));
}
