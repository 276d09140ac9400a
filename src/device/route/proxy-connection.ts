/**
 * One connection to a proxy: an `ssh` that forwards a local port to the next hop. In its session the proxy runs `cat`. The first
 * random word that comes back means that the connection is up (the port is forwarded by then); later ones show that it lives.
 */

import { randomBytes } from "node:crypto";
import type { End } from "../../end.ts";
import { messageOf, WaltError } from "../../errors.ts";
import type { Child, Children } from "../../linux/child.ts";
import { LineCutter } from "../../linux/lines.ts";
import { explainSshFailure } from "../../ssh/openssh/failure.ts";
import { Heartbeat } from "./heartbeat.ts";
import { RouteFailure } from "./route-failure.ts";

/** Longest line from a proxy that is looked at, bytes; ours are 24. */
const MAX_LINE = 1024;
/** Bytes that a proxy may say between two echoes without being asked, such as a greeting of its shell. */
const MAX_CHATTER = 65_536;

export interface ProxyConnectionOptions {
  /** The ssh, as `outerArguments` gives it. */
  readonly command: readonly string[];
  /** How the user calls the proxy, such as `proxy a:22`. */
  readonly name: string;
  /** ms without an echo after which the proxy is taken for dead. */
  readonly silence: number;
  /** ms until the first echo. */
  readonly openTimeout: number;
  readonly children: Children;
}

export class ProxyConnection {
  readonly #child: Child;
  readonly #heartbeat: Heartbeat;
  readonly #up = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<End>();
  #timer: Timer;
  #isUp = false;

  private constructor(readonly options: ProxyConnectionOptions) {
    this.#heartbeat = new Heartbeat(options.silence, () => randomBytes(12).toString("hex"));
    this.#child = options.children.spawn(options.command, "pipe");
    this.#timer = setTimeout(
      () =>
        this.#fail({
          kind: "silent",
          text: `${options.name} does not answer: no session within ${options.openTimeout} ms`,
        }),
      options.openTimeout,
    );
    this.#beat();
    this.#listen().catch((error: unknown) =>
      this.#fail({
        kind: "malformed",
        text: `${options.name} does not speak like a proxy: ${messageOf(error)}`,
      }),
    );
    void this.#child.exited.then(() => this.#fail(explainSshFailure(this.#child.stderr, options.name)));
  }

  /**
   * Open it; it is up when this resolves.
   * @throws RouteFailure naming the proxy.
   */
  static async open(options: ProxyConnectionOptions): Promise<ProxyConnection> {
    const proxy = new ProxyConnection(options);
    const end = await Promise.race([proxy.#up.promise, proxy.#ended.promise]);
    if (end === undefined) return proxy;
    await proxy.stop();
    throw new RouteFailure(end);
  }

  get name(): string {
    return this.options.name;
  }

  /** Why it ended; also when it was stopped. */
  get ended(): Promise<End> {
    return this.#ended.promise;
  }

  /** Round trip to the proxy and back at the last heartbeat, ms; 0 = not known yet. */
  get rtt(): number {
    return this.#heartbeat.rtt;
  }

  /** Where its ssh's messages end now. */
  get mark(): number {
    return this.#child.mark;
  }

  /** What its ssh printed since. */
  stderrSince(mark: number): string {
    return this.#child.stderrSince(mark);
  }

  /** End it. Resolves when its ssh is gone. */
  async stop(): Promise<void> {
    this.#fail({ kind: "stopped", text: `${this.name}: closed` });
    await this.#child.stop();
  }

  #beat(): void {
    this.#child.write(`${this.#heartbeat.beat(performance.now())}\n`);
  }

  async #listen(): Promise<void> {
    const cutter = new LineCutter(MAX_LINE);
    let chatter = 0;
    for await (const chunk of this.#child.output) {
      chatter += chunk.length;
      for (const line of cutter.push(chunk)) {
        if (!this.#heartbeat.hear(line.trim(), performance.now())) continue;
        chatter = 0;
        this.#alive();
      }
      if (chatter > MAX_CHATTER) throw new WaltError("it says more than anybody asked");
    }
  }

  /** The first echo: from now on there is one word each interval. */
  #alive(): void {
    if (this.#isUp) return;
    this.#isUp = true;
    clearTimeout(this.#timer);
    this.#timer = setInterval(() => this.#check(), this.#heartbeat.interval);
    this.#up.resolve();
  }

  #check(): void {
    const silent = this.#heartbeat.overdue(performance.now());
    if (silent === undefined) this.#beat();
    else {
      const text = `${this.name} fell silent: no answer for ${Math.round(silent / 1000)} s`;
      this.#fail({ kind: "silent", text });
    }
  }

  /** Only the first reason counts. */
  #fail(end: End): void {
    clearTimeout(this.#timer);
    this.#ended.resolve(end);
    if (!this.#child.stopping) void this.#child.stop();
  }
}
