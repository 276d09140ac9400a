/** Keeps the virtual machine running, whatever the tunnel does: one that ended is started again. */

import type { DeviceStatus } from "../api/types.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { pause, withJitter } from "./pause.ts";
import { backoff, STABLE } from "./state.ts";

/** A virtual machine as far as its keeper is concerned. */
export interface Running {
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

export interface VmKeeperOptions {
  /** `signal` is aborted when the keeper is stopped. */
  start(signal: AbortSignal): Promise<Running>;
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
    const { tell, log, wait = pause, now = () => performance.now() } = this.options;
    const { signal } = this.#stop;
    for (let failures = 0; !signal.aborted; ) {
      tell("starting");
      const started = now();
      const reason = await this.#once();
      if (signal.aborted) break;
      const ran = now() - started;
      failures = ran >= STABLE ? 0 : failures + 1;
      const ms = failures === 0 ? 0 : withJitter(backoff(failures));
      log.warn(`${reason}; starting it again`, { ran: Math.round(ran / 1000), wait: Math.round(ms) });
      tell("waiting", `virtual machine: ${reason}`);
      if (ms > 0) await wait(ms, signal);
    }
    tell("off");
  }

  /** One life of the machine; why it ended. */
  async #once(): Promise<string> {
    try {
      const vm = await this.options.start(this.#stop.signal);
      this.#vm = vm;
      if (this.#stop.signal.aborted) await vm.stop();
      else this.options.tell("running");
      return await vm.ended;
    } catch (error) {
      return messageOf(error);
    } finally {
      this.#vm = undefined;
    }
  }
}
