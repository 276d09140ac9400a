/** A virtual machine that ends is started again: at once when it ran for a while, later and later when not. */

import { expect, test } from "bun:test";
import { type Running, SHORT_LIFE, VmKeeper } from "../../../src/device/vm/keeper.ts";
import type { VmEnd } from "../../../src/device/vm/vm.ts";
import { FIRST_WAIT } from "../../../src/linux/sleep.ts";
import { createLog } from "../../../src/log.ts";

const REBOOT: VmEnd = { reason: "the node rebooted", orderly: true };
const CRASH: VmEnd = { reason: "QEMU was killed (SIGKILL)", orderly: false };

/** One life of a machine: how long it is, and how it ends (a reboot unless told). */
type Life = number | readonly [ms: number, end: VmEnd] | Error;

/** Machines that live as `lives` says (ms by a clock of our own), then one that stays. `startup` ms pass before each runs. */
function keep(lives: readonly Life[], startup = 0) {
  const told: string[] = [];
  const waits: number[] = [];
  const stays = Promise.withResolvers<void>();
  let time = 0;
  let started = 0;
  let stopped = 0;
  /** What remains of the life of the machine that was just started. */
  let live = (): void => {};
  const keeper = new VmKeeper({
    start: async (): Promise<Running> => {
      const life = lives[started++];
      live = () => {};
      time += startup;
      if (life instanceof Error) throw life;
      const { promise, resolve } = Promise.withResolvers<VmEnd>();
      if (life !== undefined) {
        const [ms, end] = typeof life === "number" ? [life, REBOOT] : life;
        live = () => {
          time += ms;
          resolve(end);
        };
      }
      return {
        ended: promise,
        stop: async () => {
          stopped++;
          resolve({ reason: "stopped", orderly: false });
        },
      };
    },
    tell: (vm, error) => {
      told.push(error === undefined ? vm : `${vm}: ${error}`);
      if (vm === "running") live();
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

/** How often the first wait was doubled; some are up to a fifth longer, so that not all boards wait alike. */
const doublings = (ms: number): number => Math.floor(Math.log2(ms / FIRST_WAIT));

test("it runs until it is stopped, and is started once", async () => {
  const k = keep([]);
  await k.stays;
  await k.keeper.stop();
  expect(k.told).toEqual(["starting", "running", "off"]);
  expect(k.count()).toEqual({ started: 1, stopped: 1 });
});

test("a node that reboots or powers itself off is started again at once, every time, and that is no error", async () => {
  const k = keep([
    SHORT_LIFE,
    SHORT_LIFE,
    [SHORT_LIFE, { reason: "the node powered itself off", orderly: true }],
  ]);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits).toEqual([]);
  const life = ["starting", "running", "waiting"];
  expect(k.told).toEqual([...life, ...life, ...life, "starting", "running", "off"]);
});

test("one that crashed after a while is started again at once, with the reason told", async () => {
  const k = keep([[60_000, CRASH]]);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits).toEqual([]);
  expect(k.told).toContain("waiting: virtual machine: QEMU was killed (SIGKILL)");
});

test("those that end soon, orderly or not, or do not even start, are waited for longer and longer", async () => {
  const k = keep([10, new Error("no QEMU"), [10, CRASH], SHORT_LIFE - 1, SHORT_LIFE, 10]);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits.map(doublings)).toEqual([0, 1, 2, 3, 0]);
  expect(k.told).toContain("waiting: virtual machine: no QEMU");
});

test("a slow start does not count as life", async () => {
  const k = keep([10, 10], 2 * SHORT_LIFE);
  await k.stays;
  await k.keeper.stop();
  expect(k.waits.map(doublings)).toEqual([0, 1]);
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
