/** A virtual machine that ends is started again: at once when it ran for a while, later and later when not. */

import { expect, test } from "bun:test";
import type { UsbPower } from "../../../src/control/reboot.ts";
import type { VmEnd } from "../../../src/device/vm/end.ts";
import { GUEST_REACTS, type Running, SHORT_LIFE, VmKeeper } from "../../../src/device/vm/keeper.ts";
import { aborted, FIRST_WAIT } from "../../../src/linux/sleep.ts";
import { createLog } from "../../../src/log.ts";
import { eventually } from "../../lab/eventually.ts";

const REBOOT: VmEnd = { kind: "guest-reset", reason: "the node rebooted", exitCode: 0, signal: null };
const POWER_OFF: VmEnd = { ...REBOOT, kind: "guest-shutdown", reason: "the node powered itself off" };
const CRASH: VmEnd = {
  kind: "killed",
  reason: "QEMU was killed (SIGKILL)",
  exitCode: null,
  signal: "SIGKILL",
};

/** One life of a machine: how long it is, and how it ends (a reboot unless told). */
type Life = number | readonly [ms: number, end: VmEnd] | Error;

/** Machines that live as `lives` says (ms by a clock of our own), then one that stays. `startup` ms pass before each runs. */
function keep(lives: readonly Life[], startup = 0, reacts = true, usb?: UsbPower) {
  const told: string[] = [];
  const waits: number[] = [];
  const stays = Promise.withResolvers<void>();
  let time = 0;
  let started = 0;
  let stopped = 0;
  let buttons = 0;
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
        powerDown: async () => {
          buttons++;
          if (reacts) resolve(POWER_OFF);
        },
        stop: async (why = "") => {
          stopped++;
          resolve({ kind: "stopped", reason: `stopped: ${why}`, exitCode: 0, signal: null });
        },
      };
    },
    cycleUsb: async () => {
      told.push("USB");
      return usb;
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
  return { keeper, told, waits, stays: stays.promise, count: () => ({ started, stopped, buttons }) };
}

/** How often the first wait was doubled; some are up to a fifth longer, so that not all boards wait alike. */
const doublings = (ms: number): number => Math.floor(Math.log2(ms / FIRST_WAIT));

test("it runs until it is stopped, and is started once", async () => {
  const k = keep([]);
  await k.stays;
  await k.keeper.stop();
  expect(k.told).toEqual(["starting", "running", "off"]);
  expect(k.count()).toEqual({ started: 1, stopped: 1, buttons: 0 });
});

test("a node that reboots or powers itself off is started again at once, every time, and that is no error", async () => {
  const k = keep([SHORT_LIFE, SHORT_LIFE, [SHORT_LIFE, POWER_OFF]]);
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

test("one with which something is wrong is started anew, with the reason told", async () => {
  const k = keep([]);
  await k.stays;
  await k.keeper.restart("it stands still");
  await eventually("the next one", () => k.count().started === 2);
  expect(k.told).toContain("waiting: virtual machine: stopped: it stands still");
  await k.keeper.stop();
});

test("one that is powered off stays off until it is powered on, or rebooted by force", async () => {
  const k = keep([]);
  await k.stays;
  expect(await k.keeper.power(true, "ann")).toEqual({ did: "powered-on" });
  for (const on of [() => k.keeper.power(true, "ann"), () => k.keeper.reboot("hard", "ann")]) {
    const before = k.count().started;
    expect(await k.keeper.power(false, "ann")).toEqual({ did: "powered-off" });
    await eventually("it is told", () => k.told.at(-1) === "powered-off");
    expect(k.keeper.lastEnd?.reason).toBe("stopped: powered off by ann");
    expect(await k.keeper.power(false, "ben")).toEqual({ did: "powered-off" });
    expect(await k.keeper.reboot("guest", "ben")).toEqual({ did: "not-running" });
    expect(k.count().started).toBe(before);
    expect(["powered-on", "rebooted"]).toContain((await on()).did);
    expect(k.count().started).toBe(before + 1);
  }
  await k.keeper.power(false, "ann");
  await k.keeper.stop();
  expect(k.told.at(-1)).toBe("off");
  expect(k.waits).toEqual([]);
});

test("one that is powered off while it starts does not run", async () => {
  const starting = Promise.withResolvers<Running>();
  const told: string[] = [];
  const { promise: ended, resolve } = Promise.withResolvers<VmEnd>();
  const keeper = new VmKeeper({
    start: () => starting.promise,
    tell: (vm) => void told.push(vm),
    log: createLog(0),
  });
  expect(await keeper.power(false, "ann")).toEqual({ did: "powered-off" });
  starting.resolve({ ended, powerDown: async () => {}, stop: async () => resolve(POWER_OFF) });
  await eventually("it is off", () => told.at(-1) === "powered-off");
  expect(told).toEqual(["starting", "waiting", "powered-off"]);
  await keeper.stop();
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

test("how the last one ended is kept as data", async () => {
  const k = keep([[60_000, CRASH], new Error("no QEMU")]);
  expect(k.keeper.lastEnd).toBeUndefined();
  await eventually("the second end", () => k.keeper.lastEnd?.kind === "not-started");
  expect(k.keeper.lastEnd).toMatchObject({ reason: "no QEMU", exitCode: null, signal: null, ran: 0 });
  await k.keeper.stop();
  const crashed = keep([[60_000, CRASH]]);
  await crashed.stays;
  expect(crashed.keeper.lastEnd).toMatchObject({ ...CRASH, ran: 60_000, at: expect.any(Date) });
  await crashed.keeper.stop();
});

test.each([
  ["guest", "the node powered itself off", { started: 2, stopped: 0, buttons: 1 }],
  ["hard", "stopped: rebooted by ann", { started: 2, stopped: 1, buttons: 0 }],
] as const)(
  "a reboot (%s) starts the next one at once, however short its life was, and is no error",
  async (how, reason, count) => {
    const k = keep([]);
    await k.stays;
    expect(await k.keeper.reboot(how, "ann")).toEqual({ did: "rebooted" });
    expect(k.count()).toEqual(count);
    expect(k.waits.filter((ms) => ms !== GUEST_REACTS)).toEqual([]);
    const cycled = how === "hard" ? ["USB"] : [];
    expect(k.told).toEqual(["starting", "running", "waiting", ...cycled, "starting", "running"]);
    expect(k.keeper.lastEnd?.reason).toBe(reason);
    await k.keeper.stop();
  },
);

test("a hard reboot tells what it did to the power of USB; powering off cuts it as well, once", async () => {
  const usb = { cycled: ["1-1.2"] };
  const k = keep([], 0, true, usb);
  await k.stays;
  expect(await k.keeper.reboot("hard", "ann")).toEqual({ did: "rebooted", usb });
  expect(await k.keeper.power(false, "ann")).toEqual({ did: "powered-off" });
  expect(await k.keeper.power(true, "ann")).toEqual({ did: "powered-on" });
  await k.keeper.stop();
  expect(k.told.filter((one) => one === "USB")).toHaveLength(2);
});

test("a guest that does not react runs on, and that is said; it can still be rebooted the hard way", async () => {
  const k = keep([], 0, false);
  await k.stays;
  expect(await k.keeper.reboot("guest", "ann", 7000)).toEqual({ did: "no-reaction", seconds: 7 });
  expect(k.waits).toEqual([7000]);
  expect(k.count()).toEqual({ started: 1, stopped: 0, buttons: 1 });
  expect(await k.keeper.reboot("hard", "ann")).toEqual({ did: "rebooted" });
  await k.keeper.stop();
});

test("an order that came to nothing has no say in a later end", async () => {
  const ends = Promise.withResolvers<VmEnd>();
  const told: string[] = [];
  const keeper = new VmKeeper({
    start: async () => ({
      ended: ends.promise,
      powerDown: async () => {},
      stop: async () => ends.resolve(CRASH),
    }),
    tell: (vm, error) => void told.push(error === undefined ? vm : `${vm}: ${error}`),
    log: createLog(0),
    wait: (ms, signal) => (ms === 1 ? Promise.resolve() : aborted(signal)),
  });
  await eventually("it runs", () => told.includes("running"));
  expect(await keeper.reboot("guest", "ann", 1)).toEqual({ did: "no-reaction", seconds: 0 });
  ends.resolve(CRASH);
  await eventually("it ended", () => told.some((one) => one.startsWith("waiting")));
  expect(told).toEqual(["starting", "running", `waiting: virtual machine: ${CRASH.reason}`]);
  await keeper.stop();
});

test("without a machine there is no guest to ask, and a hard reboot ends the wait for the next start", async () => {
  let starts = 0;
  const waiting = Promise.withResolvers<void>();
  const keeper = new VmKeeper({
    start: async () => {
      starts++;
      throw new Error(`no QEMU ${starts}`);
    },
    tell: () => {},
    log: createLog(0),
    wait: async (_, signal) => {
      waiting.resolve();
      await aborted(signal);
    },
  });
  await waiting.promise;
  expect(await keeper.reboot("guest", "ann")).toEqual({ did: "not-running" });
  expect(await keeper.reboot("hard", "ann")).toEqual({ did: "not-started", reason: "no QEMU 2" });
  await keeper.stop();
  expect(await keeper.reboot("hard", "ann")).toEqual({
    did: "not-started",
    reason: "the device is being stopped",
  });
  expect(starts).toBe(2);
});
