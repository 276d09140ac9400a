/** Runs an operator's command for each notice, one after the other. */

import type { Notice } from "../../api/notice.ts";

/** Notices that wait for the command; of more the oldest is left out. */
const MOST = 100;
/** ms after which a command that does not end is killed. */
const PATIENCE = 60_000;

export class NotifyCommand {
  readonly #queue: Notice[] = [];
  #running: Bun.Subprocess | undefined;
  #stopped = false;

  /**
   * @param command for `sh -c`. It gets the notice as JSON on its standard input, and its event, node and text
   *   in WALT_EVENT, WALT_NODE and WALT_TEXT.
   * @param failed is told when it cannot be run, or ends with another status than 0.
   */
  constructor(
    readonly command: string,
    readonly failed: (why: string) => void,
  ) {}

  run(notice: Notice): void {
    this.#queue.push(notice);
    if (this.#queue.length > MOST) this.#queue.shift();
    if (this.#running === undefined) this.#next();
  }

  /** End the command that runs, and run no other. */
  stop(): void {
    this.#stopped = true;
    this.#running?.kill();
  }

  #next(): void {
    const notice = this.#stopped ? undefined : this.#queue.shift();
    if (notice === undefined) return;
    const { event, node, text } = notice;
    const child = Bun.spawn(["sh", "-c", this.command], {
      stdin: Buffer.from(`${JSON.stringify(notice)}\n`),
      // Ours may be for a program that reads the monitor's events.
      stdout: "ignore",
      stderr: "inherit",
      env: { ...process.env, WALT_EVENT: event, WALT_NODE: node ?? "", WALT_TEXT: text },
    });
    this.#running = child;
    const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE);
    void child.exited.then((status) => {
      clearTimeout(timer);
      this.#running = undefined;
      if (status !== 0 && !this.#stopped)
        this.failed(`the command for notices ended with ${child.signalCode ?? `status ${status}`}`);
      this.#next();
    });
  }
}
