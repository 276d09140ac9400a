/** The control channel's two ends: orders, answers, refusals, ends, windows. */

import { expect, test } from "bun:test";
import { AskerGone } from "../../src/control/order-stream.ts";
import { type Order, OrderRefused } from "../../src/control/orders.ts";
import { WaltError } from "../../src/errors.ts";
import { CHANNEL_WINDOW, Channel } from "../../src/ssh/handshake/channel.ts";
import { SessionLost, TooManySessions } from "../../src/ssh/handshake/client-channels.ts";
import { eventually } from "../lab/eventually.ts";
import { controlWire, textOf } from "./wire.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** An order that no version has. */
const unknown = { order: "dance" } as unknown as Order;

test("an order is carried out, its answer is read, and it is done", async () => {
  const { asker } = controlWire(async (order, stream) => {
    await stream.write(utf8(JSON.stringify(order)));
  });
  const order: Order = { order: "log", source: "kernel", follow: false, lines: 10 };
  const answer = await asker.give(order);
  expect(JSON.parse(await textOf(answer))).toEqual(order);
  await answer.done;
});

test("what the asker writes comes to the handler, up to its end", async () => {
  const { asker } = controlWire(async (_, stream) => {
    for await (const bytes of stream.input) await stream.write(bytes);
  });
  const answer = await asker.give({ order: "echo" });
  const text = "0123456789".repeat(10_000); // several windows
  const read = textOf(answer);
  for (let at = 0; at < text.length; at += 5000) await answer.write(utf8(text.slice(at, at + 5000)));
  answer.endInput();
  expect(await read).toBe(text);
  await answer.done;
});

test("an order that the device does not know is refused with its version", async () => {
  const { asker } = controlWire(async () => {});
  const answer = await asker.give(unknown);
  const refusal = await answer.done.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(refusal).toBeInstanceOf(OrderRefused);
  expect(refusal).toMatchObject({ code: "unknown-order", version: expect.stringMatching(/^\d/) });
});

test("a failure comes with its words and what to do; a bug without its words", async () => {
  const { asker } = controlWire(async (order) => {
    if (order.order === "echo") throw new Error("secret");
    throw new WaltError("no log", { hint: "look elsewhere" });
  });
  const log = await asker.give({ order: "log", source: "vm", follow: false });
  expect(await log.done.catch((error: unknown) => error)).toMatchObject({
    ...{ code: "failed", message: "no log", hint: "look elsewhere" },
  });
  const echo = await asker.give({ order: "echo" });
  const bug = await echo.done.catch((error: unknown) => error);
  expect(bug).toMatchObject({ code: "internal" });
  expect(String(bug)).not.toContain("secret");
});

test("a handler learns that the asker has left, or that the connection is gone", async () => {
  for (const leave of ["close", "cut"] as const) {
    const ended = Promise.withResolvers<unknown>();
    const wire = controlWire(async (_, stream) => {
      try {
        for (;;) {
          await stream.write(utf8("x".repeat(4096)));
          await Bun.sleep(0);
        }
      } catch (error) {
        ended.resolve(error);
        throw error;
      }
    });
    const answer = await wire.asker.give({ order: "report" });
    await answer.read();
    if (leave === "close") answer.close();
    else wire.cut();
    expect(await ended.promise).toBeInstanceOf(AskerGone);
    if (leave === "cut") expect(await answer.done.catch((e: unknown) => e)).toBeInstanceOf(SessionLost);
  }
});

test("an asker that does not read gets a window's worth, and the handler waits", async () => {
  let written = 0;
  const wire = controlWire(async (_, stream) => {
    for (;;) {
      await stream.write(new Uint8Array(1024));
      written += 1024;
    }
  });
  const answer = await wire.asker.give({ order: "report" });
  await eventually("a window's worth", () => wire.sent.toAsker >= CHANNEL_WINDOW);
  const before = written;
  for (let turn = 0; turn < 100; turn++) await Bun.sleep(0);
  expect(written).toBe(before);
  expect(wire.sent.toAsker).toBeLessThan(2 * CHANNEL_WINDOW);
  await answer.read();
  await eventually("more", () => written > before);
  wire.cut();
});

test("a second order has its answer while a first one floods", async () => {
  const wire = controlWire(async (order, stream) => {
    if (order.order === "echo") return await stream.write(utf8("here"));
    for (;;) await stream.write(new Uint8Array(1024));
  });
  await wire.asker.give({ order: "report" });
  expect(await textOf(await wire.asker.give({ order: "echo" }))).toBe("here");
  wire.cut();
});

test("an order that is longer than a message is not sent, and its tunnel stays", async () => {
  const { asker, sent } = controlWire(async (_, stream) => await stream.write(utf8("here")));
  const hostKeys = Array.from({ length: 8 }, (_, i) => `gate${i}:22 ssh-rsa ${"A".repeat(540)}`);
  const set = asker.give({ order: "set", changes: { values: {}, hostKeys }, within: 60, by: "me" });
  await expect(set).rejects.toThrow(/the order has \d+ bytes, more than 4096/);
  expect(sent.toAnswerer).toBe(0);
  expect(await textOf(await asker.give({ order: "echo" }))).toBe("here");
});

test("more orders at once than there may be are refused, until one is done", async () => {
  const wire = controlWire(async (_, stream) => {
    await new Promise((resolve) => stream.gone.addEventListener("abort", resolve));
  });
  const answers = await Promise.all(Array.from({ length: 16 }, () => wire.asker.give({ order: "report" })));
  await expect(wire.asker.give({ order: "report" })).rejects.toThrow(TooManySessions);
  answers[0]?.close();
  await eventually("room for another", () => wire.asker.give({ order: "report" }).catch(() => undefined));
  wire.cut();
});

test("who leaves reads and writes no more at once, also when the other end never closes", async () => {
  const channel = new Channel(1000, 1000, 0, 4096, () => {}, true);
  channel.begin();
  const [read, written] = [channel.read(), channel.write(new Uint8Array(100_000))];
  channel.close();
  expect(await eventually("the end of reading", read)).toBeUndefined();
  await eventually("the end of writing", written);
});

test("what is written behind the end of the input is dropped, and ends no connection", async () => {
  const wire = controlWire(async (_, stream) => {
    for await (const bytes of stream.input) await stream.write(bytes);
  });
  const answer = await wire.asker.give({ order: "echo" });
  await answer.write(utf8("one"));
  answer.endInput();
  await answer.write(utf8("two"));
  answer.endInput();
  expect(await textOf(answer)).toBe("one");
  await answer.done;
});
