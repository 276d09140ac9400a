/** A virtual machine that ends is started again: at once when it ran well, later and later when not. */

import { expect, test } from "bun:test";
import { type Running, VmKeeper } from "../../src/device/vm-keeper.ts";
import { createLog } from "../../src/log.ts";

/** Machines that live as long as `lives` says (ms by a clock of our own), then one that stays. */
function keep(lives: readonly (number | Error)[]) {
  const told: string[] = [];
  const waits: number[] = [];
  const stays = Promise.withResolvers<void>();
  let time = 0;
  let started = 0;
  let stopped = 0;
  const keeper = new VmKeeper({
    start: async (): Promise<Running> => {
      const life = lives[started++];
      if (life instanceof Error) throw life;
      const { promise, resolve } = Promise.withResolvers<string>();
      if (life !== undefined) {
        time += life;
        resolve("the node rebooted");
      }
      return {
        ended: promise,
        stop: async () => {
          stopped++;
          resolve("stopped");
        },
      };
    },
    tell: (vm, error) => {
      told.push(error === undefined ? vm : `${vm}: ${error}`);
      if (vm === "running" && started > lives.length) stays.resolve();
    },
    log: createLog(0),
    wait: async (ms) => {
      waits.push(ms);
    },
    now: () => time,
  });
  return { keeper, told, waits, stays: stays.promise, count: () => ({ started, stopped }) };
}

test("it runs until it is stopped, and is started once", async () => {
  const k = keep([]);
  await k.stays;
  await k.keeper.stop();
  expect(k.told).toEqual(["starting", "running", "off"]);
  expect(k.count()).toEqual({ started: 1, stopped: 1 });
});

test("one that ran for long is started again at once, with the reason told", async () => {
  const k = keep([30_000]);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits).toEqual([]);
  expect(k.told).toEqual([
    "starting",
    "running",
    "waiting: virtual machine: the node rebooted",
    "starting",
    "running",
    "off",
  ]);
});

test("those that end soon, or do not even start, are waited for longer and longer", async () => {
  const k = keep([10, new Error("no QEMU"), 10, 40_000, 10]);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits.map((ms) => Math.floor(ms / 500))).toEqual([1, 2, 4, 1]);
  expect(k.told).toContain("waiting: virtual machine: no QEMU");
});

test("a stop during the wait starts no other", async () => {
  const { promise: waiting, resolve } = Promise.withResolvers<void>();
  let started = 0;
  const keeper = new VmKeeper({
    start: async () => {
      started++;
      throw new Error("no QEMU");
    },
    tell: (vm) => {
      if (vm === "waiting") resolve();
    },
    log: createLog(0),
  });
  await waiting;
  await keeper.stop();
  expect(started).toBe(1);
});
