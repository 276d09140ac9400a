/** A program of the laboratory that is started again whenever it ends, as systemd or the card's init does. */

import type { LabProcess } from "../lab/process.ts";

/** ms between the end and the next start: RestartSec of the server's unit. */
const REST = 500;

export class Kept {
  #process: LabProcess | undefined;
  #stopped = false;
  readonly #loop: Promise<void>;

  /** @param start starts it. */
  constructor(readonly start: () => LabProcess) {
    this.#loop = this.#run();
  }

  /** The process that runs now; undefined between two. */
  get process(): LabProcess | undefined {
    return this.#process;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.#process = this.start();
      await this.#process.exited;
      this.#process = undefined;
      if (!this.#stopped) await Bun.sleep(REST); // the pause is what systemd makes
    }
  }

  /** End it with SIGTERM, or kill it after a while; it is not started again. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#process?.stop("SIGTERM", { grace: 15_000, tree: false });
    await this.#loop;
  }
}
