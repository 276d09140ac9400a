/**
 * Keeps the virtual machine running: one that has ended is started again, whatever state the tunnel is in.
 */

import type { DeviceStatus } from "../../api/device-status.ts";
import type { RebootOutcome, UsbPower } from "../../control/reboot.ts";
import { messageOf } from "../../errors.ts";
import { aborted, backoff, sleep, withJitter } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import { isOrderly, type VmEnd } from "./end.ts";

/**
 * Milliseconds. A machine that ran longer is started again at once, however it ended. After shorter runs in a
 * row, the waits before the next start become longer and longer: a node that reboots again and again must not
 * keep the board busy with starting it.
 */
export const SHORT_LIFE = 5000;

/** Milliseconds that a guest may take to shut down. systemd gives its services 90 s, and emulation is slow. */
export const GUEST_REACTS = 120_000;

const STOPPING = "the device is being stopped";

/** How the last machine ended. */
export interface LastEnd extends VmEnd {
  readonly at: Date;
  /** Milliseconds that it had run; 0 when it did not start. */
  readonly ran: number;
}

/** A virtual machine that runs, as far as its keeper is concerned. */
export interface Running {
  /** Resolves when it has ended, and never rejects. */
  readonly ended: Promise<VmEnd>;
  /** Ask the guest to shut down, by the power button. Resolves when it was asked. @throws WaltError. */
  powerDown(): Promise<void>;
  /** End it. Resolves when it has ended. @param why in words. */
  stop(why?: string): Promise<void>;
}

/** How to start the machine, and what to report. */
export interface VmKeeperOptions {
  /** Start the machine. `signal` is aborted when the keeper is stopped. */
  start(signal: AbortSignal): Promise<Running>;
  /** Called with each new state. `error` is the reason of an end for which the node itself did not ask. */
  tell(vm: DeviceStatus["vm"], error?: string): void;
  /** Cut the power of the node's USB ports for a moment, while no machine has them. */
  readonly cycleUsb?: () => Promise<UsbPower | undefined>;
  readonly log: Log;
  /** Waits `ms` milliseconds, or until `signal` is aborted; tests give another function. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** A clock in milliseconds; tests give another one. */
  readonly now?: () => number;
}

/** Keeps one machine running from construction to `stop()`. */
export class VmKeeper {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #vm: Running | undefined;
  /** The next start of a machine: resolves when it runs, or to the reason why it does not. */
  #start = Promise.withResolvers<string | undefined>();
  /** Aborted to end the present wait. */
  #hurry = new AbortController();
  /** A hard reboot wants the power of USB to be cycled before the next start; then what came of it. */
  #cycle: PromiseWithResolvers<UsbPower | undefined> | undefined;
  /** Somebody has ordered the end of the machine that runs. */
  #ordered = false;
  /** Resolves when the machine is to run again; undefined unless it is to stay off. */
  #off: PromiseWithResolvers<void> | undefined;
  /** How the last machine ended; undefined while none has. */
  lastEnd: LastEnd | undefined;

  constructor(readonly options: VmKeeperOptions) {
    this.#done = this.#keep();
  }

  /** End the machine and start no other one. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#vm?.stop();
    await this.#done;
  }

  /**
   * Reboot the machine: ask its guest to shut down (`guest`), or end it without asking (`hard`). It is
   * started again at once, and a wait for the next start ends.
   * @param by who has ordered it.
   * @param reacts milliseconds that the guest may take.
   * @throws WaltError when QEMU does not take the order.
   */
  async reboot(how: "guest" | "hard", by: string, reacts = GUEST_REACTS): Promise<RebootOutcome> {
    const vm = this.#vm;
    const start = this.#start.promise;
    if (this.#stop.signal.aborted) return { did: "not-started", reason: STOPPING };
    if (vm === undefined) {
      if (how === "guest") return { did: "not-running" };
      this.#hurry.abort();
      this.#powerOn();
    } else if (how === "hard") {
      this.#ordered = true;
      this.#cycle ??= Promise.withResolvers();
      const cycle = this.#cycle.promise;
      await vm.stop(`rebooted by ${by}`);
      const reason = await start;
      if (reason !== undefined) return { did: "not-started", reason };
      const usb = await cycle;
      return { did: "rebooted", ...(usb === undefined ? {} : { usb }) };
    } else if (!(await this.#shutDown(vm, reacts))) {
      return { did: "no-reaction", seconds: Math.round(reacts / 1000) };
    }
    const reason = await start;
    return reason === undefined ? { did: "rebooted" } : { did: "not-started", reason };
  }

  /**
   * Switch the machine's power: end it and keep it off, or let it run, until the keeper's end.
   * @param by who has ordered it.
   */
  async power(on: boolean, by: string): Promise<RebootOutcome> {
    if (this.#stop.signal.aborted) return { did: "not-started", reason: STOPPING };
    if (!on) {
      this.#off ??= Promise.withResolvers();
      this.#hurry.abort();
      this.#ordered = this.#vm !== undefined;
      if (this.#vm !== undefined) this.#cycle ??= Promise.withResolvers();
      await this.#vm?.stop(`powered off by ${by}`);
      return { did: "powered-off" };
    }
    const start = this.#start.promise;
    this.#powerOn();
    this.#hurry.abort();
    const reason = this.#vm === undefined ? await start : undefined;
    return reason === undefined ? { did: "powered-on" } : { did: "not-started", reason };
  }

  #powerOn(): void {
    this.#off?.resolve();
    this.#off = undefined;
  }

  /** End the machine that runs, if one does, because something is wrong with it; it is started again. @param why in words. */
  async restart(why: string): Promise<void> {
    await this.#vm?.stop(why);
  }

  /** Ask the guest to shut down. @returns whether it has, within `reacts` ms. */
  async #shutDown(vm: Running, reacts: number): Promise<boolean> {
    this.#ordered = true;
    const late = new AbortController();
    try {
      await vm.powerDown();
      const ended = vm.ended.then(() => true);
      const { wait = sleep } = this.options;
      return await Promise.race([ended, wait(reacts, late.signal).then(() => false)]);
    } finally {
      late.abort();
      // Its end later on is that of any other machine.
      if (this.#vm === vm) this.#ordered = false;
    }
  }

  async #keep(): Promise<void> {
    const { tell, log, wait = sleep } = this.options;
    const { signal } = this.#stop;
    for (let short = 0; !signal.aborted; ) {
      if (this.#off !== undefined) {
        tell("powered-off");
        await Promise.race([this.#off.promise, aborted(signal)]);
        continue;
      }
      tell("starting");
      this.#hurry = new AbortController();
      const end = await this.#once();
      if (signal.aborted) break;
      this.lastEnd = end;
      const { reason, ran } = end;
      const fine = isOrderly(end) || this.#ordered;
      short = ran >= SHORT_LIFE || this.#ordered ? 0 : short + 1;
      this.#ordered = false;
      const ms = short === 0 || this.#off !== undefined ? 0 : withJitter(backoff(short));
      const fields = { event: "vm-ended", ran: Math.round(ran / 1000), wait: Math.round(ms) } as const;
      const next = this.#off === undefined ? "starting it again" : "it stays off";
      if (fine) log.info(`${reason}; ${next}`, fields);
      else log.warn(`${reason}; ${next}`, fields);
      if (fine) tell("waiting");
      else tell("waiting", `virtual machine: ${reason}`);
      await this.#cycleUsb();
      if (ms > 0) await wait(ms, AbortSignal.any([signal, this.#hurry.signal]));
    }
    this.#started(STOPPING);
    tell("off");
  }

  /** Cycle the power of USB, if a hard reboot wants it. */
  async #cycleUsb(): Promise<void> {
    const cycle = this.#cycle;
    this.#cycle = undefined;
    cycle?.resolve(await this.options.cycleUsb?.().catch((error: unknown) => ({ kept: messageOf(error) })));
  }

  /** Tell those who wait for a start what came of it. */
  #started(reason: string | undefined): void {
    const { resolve } = this.#start;
    this.#start = Promise.withResolvers();
    resolve(reason);
  }

  /** Run the machine once. @returns how it ended. */
  async #once(): Promise<LastEnd> {
    const { now = () => performance.now() } = this.options;
    try {
      const vm = await this.options.start(this.#stop.signal);
      const started = now();
      this.#vm = vm;
      if (this.#stop.signal.aborted || this.#off !== undefined) await vm.stop();
      else {
        this.options.tell("running");
        this.#started(undefined);
      }
      const end = await vm.ended;
      return { ...end, at: new Date(), ran: now() - started };
    } catch (error) {
      const reason = messageOf(error);
      this.#started(reason);
      return { kind: "not-started", reason, exitCode: null, signal: null, at: new Date(), ran: 0 };
    } finally {
      this.#vm = undefined;
    }
  }
}
