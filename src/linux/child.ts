/** Processes that the device owns: their complaints are kept, bounded, and none outlives its owner. */

import { messageOf, WaltError } from "../errors.ts";

/** Characters of standard error kept of each: the last ones. */
const KEPT = 8192;

/** What a child's standard input and output are: `pipe` for both, or one file descriptor, a socket, for both. */
export type ChildStdio = "pipe" | number;

type Piped = Bun.Subprocess<"pipe", "pipe", "pipe">;

export class Child {
  readonly #process: Bun.Subprocess;
  #stderr = "";
  #total = 0;
  #stopping = false;
  readonly #watchers = new Set<() => void>();
  /** Exit status; it is there once all of standard error is. */
  readonly exited: Promise<number>;

  constructor(command: readonly string[], stdio: ChildStdio) {
    try {
      this.#process = Bun.spawn([...command], {
        stdio: [stdio, stdio, "pipe"],
        // Messages in English, which explainSshFailure reads; no agent, no variable of ours that ssh would heed.
        env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/", LC_ALL: "C" },
        // A group of its own: ^C at the terminal is for us, and we end our children in the right order.
        detached: true,
      });
    } catch (error) {
      throw new WaltError(`cannot run ${command[0]}: ${messageOf(error)}`, {
        hint: `Is ${command[0]} installed?`,
        cause: error,
      });
    }
    const read = this.#readStderr().catch(() => {});
    this.exited = this.#process.exited.then(async (status) => {
      // A grandchild could hold the pipe open for longer.
      await Promise.race([read, Bun.sleep(200)]);
      return status;
    });
  }

  async #readStderr(): Promise<void> {
    if (!(this.#process.stderr instanceof ReadableStream)) return;
    const decoder = new TextDecoder();
    for await (const chunk of this.#process.stderr) {
      const text = decoder.decode(chunk, { stream: true });
      this.#total += text.length;
      this.#stderr = (this.#stderr + text).slice(-KEPT);
      for (const look of this.#watchers) look();
    }
  }

  /** Resolves when it has printed this to standard error; stays pending when it does not. */
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

  /** The end of what it printed to standard error. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Where its standard error ends now, for `stderrSince`. */
  get mark(): number {
    return this.#total;
  }

  /** What it printed to standard error after a mark, as far as it is kept. */
  stderrSince(mark: number): string {
    const length = Math.min(this.#total - mark, this.#stderr.length);
    return this.#stderr.slice(this.#stderr.length - length);
  }

  /** It was told to end: its exit is no news. */
  get stopping(): boolean {
    return this.#stopping;
  }

  /** Its standard output, of a child with pipes. */
  get output(): ReadableStream<Uint8Array> {
    return (this.#process as Piped).stdout;
  }

  /** Write to its standard input, of a child with pipes. A child that is gone already hears nothing. */
  write(text: string): void {
    try {
      const { stdin } = this.#process as Piped;
      stdin.write(text);
      Promise.resolve(stdin.flush()).catch(() => {});
    } catch {
      // EPIPE: its end is told by `exited`
    }
  }

  /** End it: SIGTERM, after `grace` ms SIGKILL. Resolves when it is gone. */
  async stop(grace = 2000): Promise<void> {
    this.#stopping = true;
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), grace);
    try {
      await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** All children of one device: what its parts did not end themselves is ended with it. */
export class Children {
  readonly #alive = new Set<Child>();
  #closed = false;

  /** @throws WaltError when the program cannot be started, or the device is being stopped. */
  spawn(command: readonly string[], stdio: ChildStdio): Child {
    if (this.#closed) throw new WaltError("the device is being stopped");
    const child = new Child(command, stdio);
    this.#alive.add(child);
    void child.exited.then(() => this.#alive.delete(child));
    return child;
  }

  /** End all that is left, and start nothing more. */
  async stop(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#alive].map((child) => child.stop()));
  }
}
