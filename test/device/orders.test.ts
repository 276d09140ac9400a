/** The orders that concern the board and the node: report, console, logs, reboot; over a control channel. */

import { beforeEach, expect, test } from "bun:test";
import type { Answer } from "../../src/control/asker.ts";
import type { Order } from "../../src/control/orders.ts";
import { PieceReader } from "../../src/control/pieces.ts";
import { parseReboot, type RebootOutcome } from "../../src/control/reboot.ts";
import { parseReport, type Report } from "../../src/control/report.ts";
import { SerialConsole } from "../../src/device/console/serial-console.ts";
import { LineRing } from "../../src/device/log/line-ring.ts";
import { linesOf } from "../../src/device/log/lines-of.ts";
import { type OrderParts, orderHandler } from "../../src/device/orders.ts";
import { WaltError } from "../../src/errors.ts";
import { Change } from "../../src/linux/change.ts";
import { controlWire, textOf } from "../control/wire.ts";
import { eventually } from "../lab/eventually.ts";

let logs: Record<"board" | "vm" | "kernel", LineRing>;
let serial: SerialConsole;
/** What was ordered of node and board. */
let did: string[];

beforeEach(() => {
  logs = { board: new LineRing(), vm: new LineRing(), kernel: new LineRing() };
  serial = new SerialConsole(linesOf(logs.vm.add));
  did = [];
});

function give(order: Order, more: Partial<OrderParts> = {}): Promise<Answer> {
  const parts = {
    report: (): Report => parseReport({ stage: "watch" }),
    changed: new Change(),
    console: serial,
    logs,
    rebootNode: async (how: string, by: string): Promise<RebootOutcome> => {
      did.push(`${how} by ${by}`);
      return { did: "no-reaction", seconds: 120 };
    },
    power: async (on: boolean, by: string): Promise<RebootOutcome> => {
      did.push(`power ${on} by ${by}`);
      return { did: on ? "powered-on" : "powered-off" };
    },
    hops: async () => [{ name: "gate:22", rtts: [1.23456, null] }],
    prepareReboot: () => () => void did.push("board"),
    ...more,
  };
  return controlWire(orderHandler(parts as OrderParts)).asker.give(order);
}

/** What an order is answered, until it holds this. */
async function until(answer: Answer, what: string): Promise<string> {
  let seen = "";
  while (!seen.includes(what)) {
    const bytes = await eventually(what, answer.read());
    if (bytes === undefined) throw new Error(`${what} did not come, only ${seen}`);
    seen += Buffer.from(bytes).toString();
  }
  return seen;
}

/** All that is shown by an answer in pieces. */
async function shownBy(answer: Answer): Promise<string> {
  const pieces = new PieceReader().take(Buffer.from(await textOf(answer)));
  return Buffer.concat(pieces.map(({ bytes }) => bytes)).toString();
}

test("report: a line at once, and the server's time is taken", async () => {
  const times: number[] = [];
  const answer = await give({ order: "report", now: 1e12 }, { time: (now) => times.push(now) });
  expect(parseReport(JSON.parse(await until(answer, "\n"))).stage).toBe("watch");
  expect(times).toEqual([1e12]);
  answer.close();
});

test("console: what the node says and what the operator types; a second writer is refused by name", async () => {
  let typed = "";
  serial.connect((bytes) => {
    typed += Buffer.from(bytes).toString();
  });
  serial.output(Buffer.from("login: "));
  const answer = await give({ order: "console", mode: "write", by: "ann" });
  await until(answer, "login: ");
  await answer.write(Buffer.from("root\r"));
  await eventually("what was typed", () => typed === "root\r");
  const second = await give({ order: "console", mode: "write", by: "ben" });
  await expect(second.done).rejects.toThrow("ann is typing on the console");
  const taker = await give({ order: "console", mode: "take", by: "cem" });
  await until(answer, "cem has taken the console");
  answer.close();
  taker.close();
  await eventually("the writer's place is free", async () => {
    const next = await give({ order: "console", mode: "write", by: "dora" });
    const got = await Promise.race([next.read(), next.done.then(() => undefined).catch(() => undefined)]);
    next.close();
    return got;
  });
});

test("log: the supervisor's, the kernel's, and the node's console as lines", async () => {
  logs.board.add("info  one");
  logs.board.add("warn  two");
  logs.kernel.add("eth0: link up");
  serial.output(Buffer.from("\u001b[1mLinux\r\nlogin: "));
  const lines = async (source: "board" | "vm" | "kernel", count?: number): Promise<string> => {
    const more = count === undefined ? {} : { lines: count };
    const answer = await give({ order: "log", source, follow: false, ...more });
    return (await shownBy(answer)).replace(/^\S{20,}Z /gm, "");
  };
  expect(await lines("board")).toBe("info  one\nwarn  two\n");
  expect(await lines("board", 1)).toBe("warn  two\n");
  expect(await lines("kernel")).toBe("eth0: link up\n");
  expect(await lines("vm")).toBe("?[1mLinux\n");
  const following = await give({ order: "log", source: "board", follow: true });
  await until(following, "two\n");
  logs.board.add("info  three");
  await until(following, "three\n");
  following.close();
});

test("reboot: guest and VM by the keeper, whose outcome is answered", async () => {
  const outcome = async (what: "guest" | "vm"): Promise<RebootOutcome> =>
    parseReboot(await textOf(await give({ order: "reboot", what, by: "ann" })));
  expect(await outcome("guest")).toEqual({ did: "no-reaction", seconds: 120 });
  expect(await outcome("vm")).toEqual({ did: "no-reaction", seconds: 120 });
  expect(did).toEqual(["guest by ann", "hard by ann"]);
});

test("power: by the keeper, whose outcome is answered", async () => {
  for (const on of [false, true]) {
    const answer = await give({ order: "power", on, by: "WalT" });
    expect(parseReboot(await textOf(answer))).toEqual({ did: on ? "powered-on" : "powered-off" });
  }
  expect(did).toEqual(["power false by WalT", "power true by WalT"]);
});

test("reboot: the board is rebooted once the answer was read, and not when it cannot be", async () => {
  const answer = await give({ order: "reboot", what: "board", by: "ann" });
  expect(parseReboot(await textOf(answer))).toEqual({ did: "board-reboots" });
  await eventually("it begins", () => did.includes("board"));
  expect(did).toEqual(["board"]);
  const refused = await give(
    { order: "reboot", what: "board", by: "ann" },
    {
      hops: async () => [{ name: "gate:22", rtts: [1.23456, null] }],
      prepareReboot: () => {
        throw new WaltError("no board");
      },
    },
  );
  await expect(refused.done).rejects.toThrow("no board");
  expect(did).toEqual(["board"]);
});

test.each([
  { order: "console", mode: "watch", by: "ann" },
  { order: "log", source: "vm", follow: false },
  { order: "reboot", what: "guest", by: "ann" },
] as const)("without a virtual machine that is said: %j", async (order) => {
  const answer = await give(order, { console: undefined });
  await expect(answer.done).rejects.toThrow("the device runs no virtual machine");
});
