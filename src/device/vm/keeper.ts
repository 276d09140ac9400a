/** Keeps the virtual machine running, whatever the tunnel does: one that ended is started again. */

import type { DeviceStatus } from "../../api/device-status.ts";
import { messageOf } from "../../errors.ts";
import { backoff, sleep, withJitter } from "../../linux/sleep.ts";
import type { Log } from "../../log.ts";
import type { VmEnd } from "./vm.ts";

/**
 * A machine that ran for so long, ms, is started again at once, however it ended. Shorter lives are waited for, longer and
 * longer: a node that reboots at once, again and again, must not keep the board busy with starting it.
 */
export const SHORT_LIFE = 5000;

/** A virtual machine as far as its keeper is concerned. */
export interface Running {
  readonly ended: Promise<VmEnd>;
  stop(): Promise<void>;
}

export interface VmKeeperOptions {
  /** `signal` is aborted when the keeper is stopped. */
  start(signal: AbortSignal): Promise<Running>;
  /** `error` is why it ended, unless the node itself asked for it. */
  tell(vm: DeviceStatus["vm"], error?: string): void;
  readonly log: Log;
  /** Pauses between attempts; a parameter for tests. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly now?: () => number;
}

export class VmKeeper {
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #vm: Running | undefined;

  constructor(readonly options: VmKeeperOptions) {
    this.#done = this.#keep();
  }

  /** End the machine and start no other. Resolves when it is gone. */
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
      const fields = { ran: Math.round(ran / 1000), wait: Math.round(ms) };
      if (orderly) log.info(`${reason}; starting it again`, fields);
      else log.warn(`${reason}; starting it again`, fields);
      if (orderly) tell("waiting");
      else tell("waiting", `virtual machine: ${reason}`);
      if (ms > 0) await wait(ms, signal);
    }
    tell("off");
  }

  /** One life of the machine: how it ended, and how long it ran, ms (0: it did not even start). */
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
