/** A folder for what is half made: gone when it is done with, and when the program is interrupted. */

import { mkdtempSync, rmSync } from "node:fs";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export class WorkFolder implements Disposable {
  readonly path: string;
  readonly #interrupted: (signal: NodeJS.Signals) => void;

  /** @param prefix its path up to some random characters. @throws the system's error when it cannot be made. */
  constructor(prefix: string) {
    this.path = mkdtempSync(prefix);
    this.#interrupted = (signal) => {
      this[Symbol.dispose]();
      process.kill(process.pid, signal); // and end as we would have without this
    };
    for (const signal of SIGNALS) process.on(signal, this.#interrupted);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#interrupted);
    rmSync(this.path, { recursive: true, force: true });
  }
}
