/** What the device does when the server gives it an order over the control channel. */

import type { OrderHandler } from "../control/answerer.ts";
import { type Hop, printHops } from "../control/hops.ts";
import type { OrderStream } from "../control/order-stream.ts";
import type { Order, OrderOf } from "../control/orders.ts";
import { inPieces } from "../control/pieces.ts";
import { printReboot, type RebootOutcome } from "../control/reboot.ts";
import { printReport, type Report } from "../control/report.ts";
import { WaltError } from "../errors.ts";
import type { Change } from "../linux/change.ts";
import { sleep } from "../linux/sleep.ts";
import type { Trials } from "./boot/trial.ts";
import type { Peers } from "./boot/waiting.ts";
import type { SerialConsole } from "./console/serial-console.ts";
import { FRESH_AFTER_CHANGE } from "./health/health.ts";
import { type LineLog, tail } from "./log/tail.ts";

/** What orders act on. */
export interface OrderParts {
  readonly trials: Trials;
  /** The device's report, as it is now, and when there may be another one. */
  report(): Report;
  readonly changed: Change;
  /** The node's console; undefined when the device runs no virtual machine. */
  readonly console: SerialConsole | undefined;
  /** The supervisor's log, the node's console as lines, and the kernel's log. */
  readonly logs: Readonly<Record<OrderOf<"log">["source"], LineLog>>;
  /** The server says what time it is, in ms since 1970. */
  time(now: number): void;
  /** The devices that have their tunnels through the same entrypoint. */
  peers(peers: Peers): void;
  /** Measure the round trip times to the proxies. */
  hops(rounds: number): Promise<Hop[]>;
  /** Reboot the node. @throws WaltError when QEMU does not take the order. */
  rebootNode(how: "guest" | "hard", by: string): Promise<RebootOutcome>;
  /** Start the node, or end it and keep it off. */
  power(on: boolean, by: string): Promise<RebootOutcome>;
  /** Prepare to reboot the board, and return a function that does it. @throws WaltError when it cannot be. */
  prepareReboot(): () => void;
}

/**
 * ms that the server has to read the answer, before the tunnel that carries it is ended. On a good path it takes
 * a round trip. On a bad one TCP sends several times again; after this time a path counts as silent.
 */
const ANSWER_TIME = 10_000;
/** ms between two reports to the same asker, while nothing changes, and at least. */
const REPORT_EVERY = 60_000;
const REPORT_PAUSE = FRESH_AFTER_CHANGE;

export function orderHandler(parts: OrderParts): OrderHandler {
  return async (order: Order, stream: OrderStream): Promise<void> => {
    switch (order.order) {
      case "echo":
        for await (const bytes of stream.input) await stream.write(bytes);
        return;
      case "peers":
        return parts.peers(order);
      case "hops":
        return await writeLine(stream, printHops(await parts.hops(order.rounds)));
      case "report":
        if (order.now !== undefined) parts.time(order.now);
        return await report(parts, stream);
      case "console":
        return await consoleOf(parts).attach(
          { mode: order.mode, name: order.by, after: order.after },
          inPieces(stream),
        );
      case "log":
        if (order.source === "vm") consoleOf(parts);
        return await tail(parts.logs[order.source], order, inPieces(stream));
      case "reboot":
        return await reboot(parts, order, stream);
      case "power":
        consoleOf(parts);
        return await writeLine(stream, printReboot(await parts.power(order.on, order.by)));
      case "set":
        return await set(parts.trials, order, stream);
    }
  };
}

/** Send a report whenever something has changed, and now and then, until the asker has gone. */
async function report(parts: OrderParts, stream: OrderStream): Promise<void> {
  while (!stream.gone.aborted) {
    const enough = new AbortController();
    const over = AbortSignal.any([stream.gone, enough.signal]);
    const changed = parts.changed.next(over);
    await writeLine(stream, printReport(parts.report()));
    await sleep(REPORT_PAUSE, stream.gone);
    await Promise.race([changed, sleep(REPORT_EVERY, over)]);
    enough.abort();
  }
}

/** The node's console. @throws WaltError when there is no virtual machine. */
function consoleOf({ console }: OrderParts): SerialConsole {
  if (console !== undefined) return console;
  throw new WaltError("the device runs no virtual machine: device.vm.start is false in its vpn.toml");
}

async function reboot(parts: OrderParts, order: OrderOf<"reboot">, stream: OrderStream): Promise<void> {
  if (order.what === "board") {
    const begin = parts.prepareReboot();
    await writeLine(stream, printReboot({ did: "board-reboots" }));
    return afterAnswer(stream, begin);
  }
  consoleOf(parts);
  const outcome = await parts.rebootNode(order.what === "vm" ? "hard" : "guest", order.by);
  await writeLine(stream, printReboot(outcome));
}

async function set(trials: Trials, order: OrderOf<"set">, stream: OrderStream): Promise<void> {
  const { id, begin } = trials.prepare(order.changes, order.by, 1000 * order.within);
  await writeLine(stream, JSON.stringify({ id }));
  afterAnswer(stream, begin);
}

async function writeLine(stream: OrderStream, line: string): Promise<void> {
  await stream.write(new TextEncoder().encode(`${line}\n`));
}

/** Do something that ends the tunnel, once the server has the answer. */
function afterAnswer({ gone }: OrderStream, what: () => void): void {
  const timer = setTimeout(what, ANSWER_TIME);
  gone.addEventListener("abort", () => {
    clearTimeout(timer);
    what();
  });
}
