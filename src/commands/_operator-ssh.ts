/**
 * The operator's own ssh to the server's machine: a connection by which a socket here leads to that of the API.
 * For a command that goes on it connects again when it ends, such as after the sleep of a laptop.
 */

import { existsSync, rmSync } from "node:fs";
import { messageOf, WaltError } from "../errors.ts";
import { smallFolder } from "../linux/files.ts";
import { paced } from "../linux/output.ts";
import { runAny, started } from "../linux/run.ts";
import { aborted, backoff, LONGEST_WAIT, sleep, within, withJitter } from "../linux/sleep.ts";
import { option } from "../ssh/openssh/arguments.ts";
import {
  forwardArguments,
  operatorArguments,
  operatorSockets,
  SOCKET_FOLDER_LONGEST,
} from "../ssh/openssh/operator-arguments.ts";
import { plainText, safeText } from "../text.ts";
import type { RemoteServer } from "./_servers.ts";
import { beforeSignal } from "./_signals.ts";

/** Lines of refusals that are kept. */
const MAX_REFUSALS = 1000;
/** ms between looks whether ssh has logged in. */
const LOOK = 20;
/** ms that an ssh may take that does not use the network. */
const SHORT = 15_000;
/** ms that ssh may take to log in when nobody is asked for anything. */
const LOGIN = 60_000;
/** ms that ssh may take to end; it is killed then. */
const ENDING = 2000;
/** ms in which a ^C ends this command, too, if it has ended ssh first. */
const MOMENT = 300;
/** ms until a refusal that was heard of has been read. */
const READ_TIME = 500;

/** Lines such as `channel 3: open failed: connect failed: Connection refused`. They do not say what was refused. */
export class Refusals {
  readonly #lines: string[] = [];
  #added = Promise.withResolvers<void>();

  get count(): number {
    return this.#lines.length;
  }

  add(line: string): void {
    if (this.#lines.length === MAX_REFUSALS) return;
    this.#lines.push(line);
    this.#added.resolve();
    this.#added = Promise.withResolvers();
  }

  /** The lines after the first `count`. When there are none, waits a moment for one. */
  async after(count: number): Promise<string[]> {
    if (this.count === count) await Promise.race([this.#added.promise, Bun.sleep(READ_TIME)]);
    return this.#lines.slice(count);
  }
}

/** An ssh that runs, and what it said last. */
interface Running {
  readonly exited: Promise<number>;
  /** Resolves when all that it said has been read. */
  readonly said: Promise<void>;
  kill(signal?: NodeJS.Signals): void;
}

export class OperatorSsh implements AsyncDisposable {
  readonly refusals = new Refusals();
  readonly #folder: string;
  readonly #signalled: Disposable;
  readonly #stop = new AbortController();
  #child: Running | undefined;
  /** Whether its words go to the terminal: not beside a table that is drawn there. */
  #isHeard = true;
  /** What `ssh -V` prints. */
  #version: string | undefined;
  /** What ssh said last. */
  #words = "";
  #lost: string | undefined;

  /** @param remote the server's machine. @param socket of the API there. */
  private constructor(
    readonly remote: RemoteServer,
    readonly socket: string,
  ) {
    this.#folder = smallFolder((made) => {
      operatorSockets(made);
      return made;
    }, SOCKET_FOLDER_LONGEST);
    // A signal that ends this command would leave an ssh behind that nobody ends.
    this.#signalled = beforeSignal(() => {
      this.#stop.abort();
      this.#child?.kill();
      this.#removeFolder();
    });
  }

  /**
   * Connect; ssh may ask on the terminal.
   * @throws WaltError when ssh ends, or cannot be run, or does not forward the socket.
   */
  static async connect(remote: RemoteServer, socket: string): Promise<OperatorSsh> {
    const ssh = new OperatorSsh(remote, socket);
    try {
      await ssh.#open(true);
    } catch (error) {
      await ssh[Symbol.asyncDispose]();
      throw error;
    }
    return ssh;
  }

  /** Path of the socket by which an `ssh -S` uses the connection. */
  get control(): string {
    return operatorSockets(this.#folder).control;
  }

  /** Path of the socket that leads to that of the API. */
  get api(): string {
    return operatorSockets(this.#folder).api;
  }

  /** Why there is no connection, while it is tried again; undefined while there is one. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** Nothing is heard through it any more, although ssh has not noticed: it connects anew. */
  silent(): void {
    if (this.#lost !== undefined) return;
    void this.#end();
  }

  /** Connect again whenever ssh ends, with growing pauses, until `signal`. ssh asks for nothing then. */
  async keep(signal: AbortSignal): Promise<void> {
    this.#isHeard = false;
    signal.addEventListener("abort", () => void this.#end());
    let failures = 0;
    while (!signal.aborted) {
      const since = performance.now();
      await Promise.race([this.#child?.exited, aborted(signal)]);
      await Promise.race([this.#child?.said, Bun.sleep(ENDING), aborted(signal)]);
      this.#lost = this.#words || "it has ended";
      // A connection that ends at once is no success.
      if (performance.now() - since > LONGEST_WAIT) failures = 0;
      while (this.#lost !== undefined && !signal.aborted) {
        await sleep(withJitter(backoff(++failures)), signal);
        if (signal.aborted) return;
        try {
          await this.#open(false);
          this.#lost = undefined;
        } catch (error) {
          this.#lost = this.#words || messageOf(error);
        }
      }
    }
  }

  /** @param asks whether ssh may ask for a passphrase, so that there is no limit of time. */
  async #open(asks: boolean): Promise<void> {
    const { control, api } = this;
    const { user, host, port } = this.remote;
    // Of an ssh that was killed: with them a new one would not listen.
    for (const path of [control, api]) rmSync(path, { force: true });
    this.#words = "";
    const short = { timeout: SHORT, signal: this.#stop.signal };
    this.#version ??= (await runAny(["ssh", "-V"], short)).stderr;
    const machine = host.replace(/^\[|\]$/g, "");
    const [ssh = "", ...words] = operatorArguments({
      ...{ host: machine, user, port, control, version: this.#version },
    });
    // The operator's own ssh, with its agent and passphrase: the login on the server gives the permission.
    const process_ = started("ssh", () =>
      Bun.spawn([ssh, ...(asks ? [] : option("BatchMode", "yes")), ...words], {
        ...{ stdin: asks ? "inherit" : "ignore", stdout: "ignore", stderr: "pipe", lazy: true },
      }),
    );
    const child: Running = {
      exited: process_.exited,
      said: this.#passOn(process_.stderr),
      kill: (signal = "SIGTERM") => process_.kill(signal),
    };
    this.#child = child;
    if (this.#stop.signal.aborted) child.kill();
    const limit = asks ? Number.POSITIVE_INFINITY : performance.now() + LOGIN;
    while (!existsSync(control)) {
      if (performance.now() > limit) child.kill("SIGKILL");
      const status = await Promise.race([child.exited, Bun.sleep(LOOK)]);
      if (status === undefined) continue;
      await Promise.race([child.said, Bun.sleep(ENDING)]);
      await Bun.sleep(MOMENT);
      throw new WaltError(`ssh to ${host} ended with status ${status}`, {
        hint: "The message of ssh is above.",
      });
    }
    const forward = await runAny(forwardArguments(control, api, this.socket), short);
    if (forward.status === 0) return;
    await this.#end();
    throw new WaltError(
      `ssh to ${host} does not forward ${this.socket}: ${safeText(forward.stderr.trim(), 300)}`,
      { hint: "See that nothing in your ssh_config is for another use of this host (ssh -G shows it)." },
    );
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill();
    await within(ENDING, child.exited, new Error("late")).catch(() => child.kill("SIGKILL"));
  }

  #removeFolder(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Pass on what ssh says, but for what it says of connections through it: these lines are kept. */
  async #passOn(stderr: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    const take = (line: string): void => {
      if (/^channel \d+: open failed: /.test(line)) {
        this.refusals.add(line.trim());
        return;
      }
      if (this.#isHeard) process.stderr.write(line);
      if (line.trim() !== "") this.#words = plainText(line.trim(), 200);
    };
    for await (const bytes of paced(stderr)) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split(/(?<=\n)/);
      // A line that is not complete may be a question.
      rest = /^c[^\n]*$/.test(lines.at(-1) ?? "") ? (lines.pop() ?? "") : "";
      for (const line of lines) take(line);
    }
    take(rest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#end();
    this.#signalled[Symbol.dispose]();
    this.#removeFolder();
  }
}
