/** Orders and the journal: it has who asked for what, by the name that the kernel says. */

import { beforeEach, expect, test } from "bun:test";
import { ApiError } from "../../src/api/api-error.ts";
import type { Answer } from "../../src/control/asker.ts";
import type { Order } from "../../src/control/orders.ts";
import { Orders, orderDetails, type SignedOrder } from "../../src/server/orders.ts";

const REBOOT: SignedOrder = { order: "reboot", what: "board", by: "eve@laptop" };

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
  await orders.begin("lab-3", REBOOT, "al");
  await orders.begin("lab-3", { order: "echo" }, "al");
  expect(recorded).toEqual([["lab-3", { ...REBOOT, by: "al (eve@laptop)" }]]);
});

test("what a device does not begin with is not noted, and what cannot be noted is not done", async () => {
  isDown = true;
  await expect(orders.begin("lab-3", REBOOT, "al")).rejects.toThrow("is down");
  expect(recorded).toEqual([]);
  isDown = false;
  journal = () => {
    throw new Error("the disk is full");
  };
  await expect(orders.begin("lab-3", REBOOT, "al")).rejects.toThrow("the disk is full");
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
