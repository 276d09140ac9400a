/**
 * Keeps the virtual machine running: one that has ended is started again, whatever state the tunnel is in.
 */

import type { DeviceStatus } from "../../api/device-status.ts";
import { messageOf } from "../../errors.ts";
import { backoff, sleep, withJitter } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import type { VmEnd } from "./vm.ts";

/**
 * Milliseconds. A machine that ran longer is started again at once, however it ended. After shorter runs in a
 * row, the waits before the next start become longer and longer: a node that reboots again and again must not
 * keep the board busy with starting it.
 */
export const SHORT_LIFE = 5000;

/** A virtual machine that runs, as far as its keeper is concerned. */
export interface Running {
  /** Resolves when it has ended, and never rejects. */
  readonly ended: Promise<VmEnd>;
  /** End it. Resolves when it has ended. */
  stop(): Promise<void>;
}

/** How to start the machine, and what to report. */
export interface VmKeeperOptions {
  /** Start the machine. `signal` is aborted when the keeper is stopped. */
  start(signal: AbortSignal): Promise<Running>;
  /** Called with each new state. `error` is the reason of an end for which the node itself did not ask. */
  tell(vm: DeviceStatus["vm"], error?: string): void;
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

  constructor(readonly options: VmKeeperOptions) {
    this.#done = this.#keep();
  }

  /** End the machine and start no other one. Resolves when it has ended. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#vm?.stop();
    await this.#done;
  }

  async #keep(): Promise<void> {
    const { tell, log, wait = sleep } = this.options;
    const { signal } = this.#stop;
    for (let short = 0; !signal.aborted; ) {
      tell("starting");
      const { reason, orderly, ran } = await this.#once();
      if (signal.aborted) break;
      short = ran >= SHORT_LIFE ? 0 : short + 1;
      const ms = short === 0 ? 0 : withJitter(backoff(short));
      const fields = { event: "vm-ended", ran: Math.round(ran / 1000), wait: Math.round(ms) } as const;
      if (orderly) log.info(`${reason}; starting it again`, fields);
      else log.warn(`${reason}; starting it again`, fields);
      if (orderly) tell("waiting");
      else tell("waiting", `virtual machine: ${reason}`);
      if (ms > 0) await wait(ms, signal);
    }
    tell("off");
  }

  /** Run the machine once: how it ended, and how many milliseconds it ran (0 when it did not start). */
  async #once(): Promise<VmEnd & { ran: number }> {
    const { now = () => performance.now() } = this.options;
    let started: number | undefined;
    try {
      const vm = await this.options.start(this.#stop.signal);
      this.#vm = vm;
      started = now();
      if (this.#stop.signal.aborted) await vm.stop();
      else this.options.tell("running");
      const end = await vm.ended;
      return { ...end, ran: now() - started };
    } catch (error) {
      return { reason: messageOf(error), orderly: false, ran: 0 };
    } finally {
      this.#vm = undefined;
    }
  }
}
