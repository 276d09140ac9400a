/** A program that runs in a host of the laboratory: its output is kept, its end awaited, and it can be stopped. */

import { eventually, PATIENCE } from "./eventually.ts";
import { childrenOf, descendantsOf, signal } from "./proc.ts";

/** Characters of output kept of each process; older output is forgotten. */
const KEPT = 1 << 20;

/** Options of a program to be started. */
export interface SpawnOptions {
  /** Added to the host's environment. */
  env?: Record<string, string>;
  /** Working directory inside the host; the host's private folder unless told. */
  cwd?: string;
}

/** A text that grows at its end and is bounded; positions in it stay valid. */
class Tail {
  #text = "";
  #dropped = 0;

  add(more: string): void {
    this.#text += more;
    if (this.#text.length > 2 * KEPT) {
      this.#dropped += this.#text.length - KEPT;
      this.#text = this.#text.slice(-KEPT);
    }
  }

  get end(): number {
    return this.#dropped + this.#text.length;
  }

  from(position: number): string {
    return this.#text.slice(Math.max(0, position - this.#dropped));
  }
}

/** A running (or ended) program. Its own group, so that ^C at the terminal does not reach it behind its owner's back. */
export class LabProcess {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #both = new Tail();
  readonly #out = new Tail();
  readonly #err = new Tail();
  readonly #watchers = new Set<() => void>();
  /** Exit status when the program has ended and all its output is here; 128 + n when a signal ended it. */
  readonly exited: Promise<number>;

  /** `enter` leads into the host; it forks (nsenter(1) must, to change the PID namespace) and passes on the end of its child. */
  constructor(
    readonly command: readonly string[],
    enter: readonly string[],
    env: Record<string, string>,
  ) {
    this.#child = Bun.spawn([...enter, ...command], {
      env,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
      // Without this, all that a program prints without end would be kept until it is read.
      lazy: true,
      detached: true,
    });
    const outputs = [this.#read(this.#child.stdout, this.#out), this.#read(this.#child.stderr, this.#err)];
    this.exited = this.#child.exited.then(async (status) => {
      // A grandchild may hold the pipes open for longer: then what came within a moment has to do.
      await Promise.race([Promise.all(outputs), Bun.sleep(500)]);
      this.#ended = String(this.#child.signalCode ?? `exit ${status}`);
      this.#notify();
      return status;
    });
  }

  #ended: string | undefined;

  async #read(stream: ReadableStream<Uint8Array>, tail: Tail): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const text = decoder.decode(chunk, { stream: true });
      tail.add(text);
      this.#both.add(text);
      this.#notify();
    }
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher();
  }

  /** Standard output and standard error as they came. */
  get output(): string {
    return this.#both.from(0);
  }

  get stdout(): string {
    return this.#out.from(0);
  }

  get stderr(): string {
    return this.#err.from(0);
  }

  /** Where the output ends now: `waitFor(…, { after })` looks only at what comes later. */
  get position(): number {
    return this.#both.end;
  }

  /** The output after a position, as far as it is kept. */
  outputFrom(position: number): string {
    return this.#both.from(position);
  }

  /** How it ended (`exit 1`, `SIGTERM`), or undefined while it runs. */
  get ended(): string | undefined {
    return this.#ended;
  }

  /** The id of the program itself, as the outside sees it; undefined before it started and after it ended. */
  get pid(): number | undefined {
    return childrenOf(this.#child.pid)[0];
  }

  /**
   * Wait until the output matches; the match.
   * @throws Error with the last output when the program ends or `timeout` ms (`PATIENCE` unless told) are over.
   */
  async waitFor(
    pattern: RegExp,
    options: { timeout?: number; after?: number } = {},
  ): Promise<RegExpMatchArray> {
    const found = Promise.withResolvers<RegExpMatchArray>();
    const look = (): void => {
      const match = this.#both.from(options.after ?? 0).match(pattern);
      if (match !== null) found.resolve(match);
      else if (this.#ended !== undefined) found.reject(new Error(`ended (${this.#ended}) before ${pattern}`));
    };
    this.#watchers.add(look);
    look();
    try {
      return await eventually(`output like ${pattern}`, found.promise, {
        within: options.timeout ?? PATIENCE,
      });
    } catch (error) {
      const why = error instanceof Error ? error.message : error;
      throw new Error(`${this.command.join(" ")}: ${why}; its last output:\n${this.output.slice(-4000)}`);
    } finally {
      this.#watchers.delete(look);
    }
  }

  /** Write to its standard input. */
  write(text: string): void {
    this.#child.stdin.write(text);
    void this.#child.stdin.flush();
  }

  /** Close its standard input. */
  async closeInput(): Promise<void> {
    await this.#child.stdin.end();
  }

  /** Send a signal to the program, without waiting. */
  kill(name: NodeJS.Signals): void {
    const pid = this.pid;
    if (pid !== undefined) signal(pid, name);
    // nsenter(1) stops itself when its child is stopped, and would never tell of its end.
    if (name === "SIGCONT") signal(this.#child.pid, name);
  }

  /**
   * Send a signal, SIGTERM unless told, and wait for its end; its exit status. With `tree`, all its descendants get the
   * signal too. After `grace` ms (15 000 unless told) it and its descendants get SIGKILL.
   */
  async stop(
    name: NodeJS.Signals = "SIGTERM",
    options: { grace?: number; tree?: boolean } = {},
  ): Promise<number> {
    // Until the way into the host is gone there is nobody to tell.
    const ended = (): boolean => this.#child.exitCode !== null || this.#child.signalCode !== null;
    await eventually("a process to stop", () => ended() || this.pid !== undefined);
    this.#signal(name, options.tree ?? false);
    const timer = setTimeout(() => this.#signal("SIGKILL", true), options.grace ?? 15_000);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  #signal(name: NodeJS.Signals, tree: boolean): void {
    const pid = this.pid;
    if (pid === undefined) return;
    for (const one of tree ? [pid, ...descendantsOf(pid)] : [pid]) signal(one, name);
  }
}
