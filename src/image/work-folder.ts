/**
 * A folder for unfinished files. It is removed when its user is done, and when the program is interrupted.
 */

import { mkdtempSync, rmSync } from "node:fs";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Such a folder: it exists from construction to disposal (`using`). */
export class WorkFolder implements Disposable {
  /** Absolute if `prefix` was absolute. */
  readonly path: string;
  readonly #interrupted: (signal: NodeJS.Signals) => void;

  /** @param prefix the folder's path, to which random characters are added. @throws the system's error. */
  constructor(prefix: string) {
    this.path = mkdtempSync(prefix);
    this.#interrupted = (signal) => {
      this[Symbol.dispose]();
      process.kill(process.pid, signal); // Then end by the signal, as without this handler.
    };
    for (const signal of SIGNALS) process.on(signal, this.#interrupted);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#interrupted);
    rmSync(this.path, { recursive: true, force: true });
  }
}
