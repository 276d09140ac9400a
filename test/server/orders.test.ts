/** Orders and the journal: it has who asked for what, by the name that the kernel says. */

import { beforeEach, expect, test } from "bun:test";
import { ApiError } from "../../src/api/api-error.ts";
import type { Answer } from "../../src/control/asker.ts";
import type { Order } from "../../src/control/orders.ts";
import { ORDERS_MAX, OrderShares } from "../../src/server/order-shares.ts";
import { Orders, orderDetails, type SignedOrder } from "../../src/server/orders.ts";
import { TooManySessions } from "../../src/ssh/handshake/client-channels.ts";
import { eventually, turn } from "../lab/eventually.ts";

const REBOOT: SignedOrder = { order: "reboot", what: "board", by: "eve@laptop" };

/** Whoever asks stays. */
const here = new AbortController().signal;

let recorded: [node: string, order: Order][];
let closed: number;
let orders: Orders;
let journal: () => void;
let isDown: boolean;
beforeEach(() => {
  [recorded, closed, journal, isDown] = [[], 0, () => {}, false];
  const answer: Answer = {
    read: () => Promise.resolve(undefined),
    write: () => Promise.resolve(),
    endInput: () => {},
    close: () => void closed++,
    done: Promise.resolve(),
  };
  orders = new Orders(
    () => (isDown ? Promise.reject(new ApiError("node-down", "is down")) : Promise.resolve(answer)),
    (node, order) => {
      journal();
      recorded.push([node, order]);
    },
  );
});

test("an order is noted with the user, and the claim behind him; one that only looks is not", async () => {
  await orders.begin("lab-3", REBOOT, "al", here);
  await orders.begin("lab-3", { order: "echo" }, "al", here);
  expect(recorded).toEqual([["lab-3", { ...REBOOT, by: "al (eve@laptop)" }]]);
});

test("what a device does not begin with is not noted, and what cannot be noted is not done", async () => {
  isDown = true;
  await expect(orders.begin("lab-3", REBOOT, "al", here)).rejects.toThrow("is down");
  expect(recorded).toEqual([]);
  isDown = false;
  journal = () => {
    throw new Error("the disk is full");
  };
  await expect(orders.begin("lab-3", REBOOT, "al", here)).rejects.toThrow("the disk is full");
  expect(closed).toBe(1);
});

test("the journal says what was ordered", () => {
  const { by } = REBOOT;
  expect(orderDetails(REBOOT)).toEqual({ order: "reboot", what: "board" });
  expect(orderDetails({ order: "console", mode: "take", by })).toEqual({ order: "console", mode: "take" });
  const changes = {
    values: { entrypoint: ["gate1", "gate2"], mtu: null },
    hostKeys: ["gate1 ssh-ed25519 A"],
  };
  const set = { order: "set", within: 60 } as const;
  const settings = "entrypoint=gate1,gate2, mtu=, host keys";
  expect(orderDetails({ ...set, changes, by })).toEqual({ ...set, settings });
  const fewer = { values: { mtu: 1400 }, hostKeys: [] };
  expect(orderDetails({ ...set, changes: fewer, by })).toEqual({ ...set, settings: "mtu=1400" });
});

/** A device that has begun with an order, and says nothing until it is left. */
function silent() {
  const over = Promise.withResolvers<undefined>();
  const typed: string[] = [];
  const answer: Answer = {
    read: () => over.promise,
    write: async (bytes) => {
      typed.push("<");
      await turn();
      typed.push(`${Buffer.from(bytes).toString()}>`);
    },
    endInput: () => void typed.push("end"),
    close: () => over.resolve(undefined),
    done: Promise.resolve(),
  };
  return { answer, typed, over: over.promise };
}

test("an operator who leaves a silent order frees it at once, also before he has read anything", async () => {
  for (const reads of [true, false]) {
    const { answer, over } = silent();
    const shares = new OrderShares();
    const some = new Orders(
      async () => answer,
      () => {},
      shares,
    );
    const leaving = new AbortController();
    const events = await some.begin("lab-3", { order: "echo" }, "al", leaving.signal);
    if (reads) {
      await events.next();
      void events.next();
    }
    leaving.abort();
    await eventually("the order is left", over);
    shares.take("lab-3", "al", ORDERS_MAX / 2); // all that one user gets
  }
});

test("input comes in its order, to whoever began the order, and not behind its end", async () => {
  const { answer, typed } = silent();
  const some = new Orders(
    async () => answer,
    () => {},
  );
  const events = await some.begin("lab-3", { order: "echo" }, "al", here);
  const begun: unknown = (await events.next()).value;
  const { session } = begun as { session: string };
  const none = new Uint8Array();
  await expect(some.input(session, "eve", Buffer.from("rm"), false)).rejects.toThrow("the order has ended");
  await Promise.all(["a", "b", "c"].map((one) => some.input(session, "al", Buffer.from(one), false)));
  await some.input(session, "al", none, true);
  await expect(some.input(session, "al", none, true)).rejects.toThrow("input of the order has ended");
  expect(typed.join("")).toBe("<a><b><c><>end");
});

test("one user cannot have so many orders at a device that nothing is left to others", async () => {
  const some = new Orders(
    async () => silent().answer,
    () => {},
  );
  const begin = (user: string) => some.begin("lab-3", { order: "echo" }, user, here);
  const flood = await Promise.allSettled(Array.from({ length: 10_000 }, () => begin("al")));
  const begun = flood.filter(({ status }) => status === "fulfilled").length;
  expect(begun).toBe(8);
  for (const user of ["bea", "cem", "dora"]) await begin(user);
  const refusal = await begin("al").catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: "too-many" });
  await some.begin("lab-4", { order: "echo" }, "al", here); // another device has its own
});

test("a device with as many sessions as there may be is not one of an older version", async () => {
  const some = new Orders(
    () => Promise.reject(new TooManySessions("16 sessions are open")),
    () => {},
  );
  for (let i = 0; i < 20; i++)
    await expect(some.begin("lab-3", { order: "echo" }, "al", here)).rejects.toMatchObject({
      ...{ code: "too-many", message: "16 sessions are open at the device of lab-3" },
    });
});
