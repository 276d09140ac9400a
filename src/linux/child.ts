/**
 * Long-running child processes: the end of their standard error is kept, and all end together with their
 * owner.
 */

import { WaltError } from "../errors.ts";
import { paced } from "./output.ts";
import { started } from "./run.ts";

/** How many characters of a child's standard error are kept: the last ones. */
const KEPT = 8192;

/** A child's standard input and output: a pipe for each, or the file descriptor of one socket for both. */
export type ChildStdio = "pipe" | number;

type Piped = Bun.Subprocess<"pipe", "pipe", "pipe">;

/** A child process, from its start. */
export class Child {
  readonly #process: Bun.Subprocess;
  #stderr = "";
  #total = 0;
  #stopping = false;
  readonly #watchers = new Set<() => void>();
  /** Resolves to the exit status when the child has ended and all of its standard error is in `stderr`. */
  readonly exited: Promise<number>;

  /** Start a program. @throws WaltError when that fails. */
  constructor(command: readonly string[], stdio: ChildStdio) {
    this.#process = started(command[0] ?? "", () =>
      Bun.spawn([...command], {
        stdio: [stdio, stdio, "pipe"],
        // Messages are in English, as explainSshFailure expects. No other variable of ours is passed on: ssh
        // would use some of them, such as that of an agent.
        env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/", LC_ALL: "C" },
        // The child is in its own process group, so that Ctrl-C at the terminal does not signal it: this
        // process ends its children itself, in the right order.
        detached: true,
        lazy: true, // else Bun reads, and keeps, all that comes
      }),
    );
    const read = this.#readStderr().catch(() => {});
    this.exited = this.#process.exited.then(async (status) => {
      endGroup(this.#process);
      // Do not wait for long: a process that has left the group may keep the pipe open.
      await Promise.race([read, Bun.sleep(200)]);
      return status;
    });
  }

  async #readStderr(): Promise<void> {
    if (!(this.#process.stderr instanceof ReadableStream)) return;
    const decoder = new TextDecoder();
    for await (const chunk of paced(this.#process.stderr)) {
      const text = decoder.decode(chunk, { stream: true });
      this.#total += text.length;
      this.#stderr = (this.#stderr + text).slice(-KEPT);
      for (const look of this.#watchers) look();
    }
  }

  /** Resolves when the kept standard error contains `text`; stays pending if that never happens. */
  printed(text: string): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!this.#stderr.includes(text)) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** The last characters that the child printed to standard error, at most 8192. */
  get stderr(): string {
    return this.#stderr;
  }

  /** How many characters the child has printed to standard error until now, for `stderrSince`. */
  get mark(): number {
    return this.#total;
  }

  /** What the child printed to standard error after a mark, as far as it is kept. */
  stderrSince(mark: number): string {
    const length = Math.min(this.#total - mark, this.#stderr.length);
    return this.#stderr.slice(this.#stderr.length - length);
  }

  /** Whether `stop()` was called, so that the end of the child is expected. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** The child's standard output: nothing of it is read but by whoever uses this. Only for a child with pipes. */
  get output(): ReadableStream<Uint8Array> {
    return (this.#process as Piped).stdout;
  }

  /**
   * Write to the child's standard input; does nothing when the child has ended. Only for a child with pipes.
   */
  write(text: string): void {
    try {
      const { stdin } = this.#process as Piped;
      stdin.write(text);
      Promise.resolve(stdin.flush()).catch(() => {});
    } catch {
      // EPIPE: the child has ended, which `exited` reports.
    }
  }

  /** End the child by SIGTERM, and after `grace` milliseconds by SIGKILL. Resolves when it has ended. */
  async stop(grace = 2000): Promise<void> {
    // Once: a second signal could come in the middle of what the first one makes it do.
    if (!this.#stopping) this.#process.kill("SIGTERM");
    this.#stopping = true;
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), grace);
    try {
      await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * End the processes that a program has left behind, after its own end. They would keep its pipes open, and Bun
 * would read, and keep, all that they print. The program must have been started with `detached`.
 */
export function endGroup({ pid }: { readonly pid: number }): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has left none.
  }
}

/**
 * The children of one owner, such as the device: those that still run when the owner stops are ended with it.
 */
export class Children {
  readonly #alive = new Set<Child>();
  #stopped = false;

  /** Start a child. @throws WaltError when the program cannot be started, or after `stop()`. */
  spawn(command: readonly string[], stdio: ChildStdio): Child {
    if (this.#stopped) throw new WaltError("the device is being stopped");
    const child = new Child(command, stdio);
    this.#alive.add(child);
    void child.exited.then(() => this.#alive.delete(child));
    return child;
  }

  /** End all children that still run, and refuse to start more. Resolves when all have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#alive].map((child) => child.stop()));
  }
}
