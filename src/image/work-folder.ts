/**
 * A folder for unfinished files. It is removed when its user is done, and when the program is interrupted.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";
import { messageOf, WaltError } from "../errors.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Such a folder: it exists from construction to disposal (`using`). */
export class WorkFolder implements Disposable {
  /** Absolute if `prefix` was absolute. */
  readonly path: string;
  readonly #interrupted: (signal: NodeJS.Signals) => void;

  /** @param prefix the folder's path, to which random characters are added. @throws WaltError when it cannot be made. */
  constructor(prefix: string) {
    try {
      this.path = mkdtempSync(prefix);
    } catch (error) {
      const isTemporary = dirname(prefix) === tmpdir();
      throw new WaltError(`cannot make a folder for unfinished files: ${messageOf(error)}`, {
        ...(isTemporary ? { hint: "Set TMPDIR to a folder in which you may write." } : {}),
        cause: error,
      });
    }
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
