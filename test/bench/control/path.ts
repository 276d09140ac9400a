/** The control channel beside frames: how long an answer takes, and what frames lose beside a flooding log. */

import { giveOrder, type OrderInput } from "../../../src/commands/node/_orders.ts";
import { INTERNET } from "../../lab/lab.ts";
import { pingable, WALT_NET, World } from "../../lab/world.ts";
import { pings, tcp } from "../tunnel/measure.ts";
import { FAR, Wire } from "../tunnel/wire.ts";

/** A path between device and proxy. */
export interface ControlPath {
  readonly name: string;
  readonly words: string;
  /** Makes the wire so; undefined: as fast as the machine. */
  readonly shape?: (wire: Wire) => Promise<void>;
}

/** What fills the path: nothing, frames from the node to the lab, or frames from the lab to the node. */
export const LOADS = ["idle", "up", "down"] as const;
export type Load = (typeof LOADS)[number];

/** ms of each round trip of one run. */
export interface Times {
  /** A ping from the server to the node. */
  ping: number[];
  /** A byte that is typed at an order that runs already, until it is back: what a key on a console takes. */
  key: number[];
  /** A whole order, from its request until it is done. */
  order: number[];
}

export interface PathRun {
  readonly times: Record<Load, Times>;
  /** Frames from the node to the lab, Mbit/s: alone, and while a log floods the same direction. */
  readonly alone: number;
  readonly beside: number;
  /** Of the log that floods, Mbit/s. */
  readonly log: number;
}

/** Seconds until a flow is past its own beginning. */
const BEGINNING = 2;
/** Measurements of each kind under one load, and s between them. */
const PINGS = 60;
const KEYS = 40;
const BETWEEN = 0.05;
/** Orders, and ms between them: longer than a round trip, as people are. */
const ORDERS = 12;
const PAUSE = 250;
/** Orders of logs that run side by side: as many as fill what a connection takes of them. */
const READERS = 4;

export async function measurePath(
  path: ControlPath,
  runs: number,
  seconds: number,
  say: (line: string) => void,
): Promise<PathRun[]> {
  await using world = await World.create();
  const wire = path.shape === undefined ? undefined : await Wire.lay(world);
  if (wire !== undefined) await path.shape?.(wire);
  const device = await world.device("device", { network: wire === undefined ? INTERNET : FAR });
  await wire?.admit(device.host, 1);
  const name = await device.enrol();
  const address = "192.168.192.101";
  const node = await device.plugNode(address, (await world.nodes())[0]?.mac ?? "");
  if (!(await pingable(node, WALT_NET, 30))) throw new Error("the tunnel does not answer");
  const bulk = (load: Load, duration: number): Promise<{ mbits: number }> => {
    if (load === "up") return tcp(node, world.server, WALT_NET, duration);
    if (load === "down") return tcp(world.server, node, address, duration);
    return Promise.resolve({ mbits: 0 });
  };

  const timesUnder = async (load: Load): Promise<Times> => {
    const flow = bulk(load, BEGINNING + 2 * PINGS * BETWEEN + 2);
    if (load !== "idle") await Bun.sleep(1000 * BEGINNING);
    // At the same time, so that all of them meet the same queues.
    const [ping, key, order] = await Promise.all([
      pings(world.server, address, PINGS, BETWEEN),
      keys(world, name),
      orders(world, name),
    ]);
    await flow;
    return { ping, key, order };
  };

  const found: PathRun[] = [];
  for (let run = 0; run < runs; run++) {
    const times = {
      idle: await timesUnder("idle"),
      up: await timesUnder("up"),
      down: await timesUnder("down"),
    };
    const { mbits: alone } = await bulk("up", BEGINNING + seconds);
    const reading = readLogs(world, name);
    const { mbits: beside } = await bulk("up", BEGINNING + seconds);
    const log = await reading.stop();
    found.push({ times, alone, beside, log });
    const rates = `${alone.toFixed(1)} Mbit/s alone, ${beside.toFixed(1)} beside a log of ${log.toFixed(2)}`;
    say(`${path.name} ${run + 1}/${runs}: ${rates}`);
  }
  return found;
}

async function keys(world: World, node: string): Promise<number[]> {
  const times: number[] = [];
  let back = Promise.withResolvers<void>();
  const began = Promise.withResolvers<OrderInput>();
  const order = giveOrder(
    world.api,
    node,
    { order: "echo" },
    {
      begun: (input) => began.resolve(input),
      output: () => back.resolve(),
      signal: new AbortController().signal,
    },
  );
  const input = await Promise.race([began.promise, order.then(() => Promise.reject(new Error("no echo")))]);
  for (let i = 0; i < KEYS; i++) {
    back = Promise.withResolvers();
    const from = performance.now();
    input.type(Uint8Array.of(0x78));
    await back.promise;
    times.push(performance.now() - from);
    await Bun.sleep(1000 * BETWEEN);
  }
  input.end();
  await order;
  return times;
}

async function orders(world: World, node: string): Promise<number[]> {
  const times: number[] = [];
  const order = { order: "log" as const, source: "board" as const, follow: false, lines: 1 };
  for (let i = 0; i < ORDERS; i++) {
    const from = performance.now();
    await giveOrder(world.api, node, order, { output: () => {}, signal: new AbortController().signal });
    times.push(performance.now() - from);
    await Bun.sleep(PAUSE);
  }
  return times;
}

/** Read the board's kernel log again and again, as fast as it comes. */
function readLogs(world: World, node: string): { stop(): Promise<number> } {
  const over = new AbortController();
  const from = performance.now();
  let bytes = 0;
  const read = async (): Promise<void> => {
    const order = { order: "log" as const, source: "kernel" as const, follow: false };
    const output = (part: Uint8Array): void => {
      bytes += part.length;
    };
    while (!over.signal.aborted) await giveOrder(world.api, node, order, { output, signal: over.signal });
  };
  const readers = Array.from({ length: READERS }, () => read().catch(() => {})); // they are aborted
  return {
    stop: async () => {
      const rate = (bytes * 8) / 1000 / (performance.now() - from);
      over.abort();
      await Promise.all(readers);
      return rate;
    },
  };
}
