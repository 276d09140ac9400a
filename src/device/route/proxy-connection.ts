/**
 * A connection to one proxy: an `ssh` that forwards a local port to the next hop.
 *
 * In the session of this ssh the proxy runs `cat`, which sends our random words back. The first word that
 * comes back means that the connection is up: the port is forwarded by then. Later words show that the proxy
 * still answers.
 */

import { randomBytes } from "node:crypto";
import type { End } from "../../end.ts";
import { messageOf, WaltError } from "../../errors.ts";
import type { Child, Children } from "../../linux/child.ts";
import { LineCutter } from "../../linux/lines.ts";
import { CONNECTED } from "../../ssh/openssh/arguments.ts";
import { explainSshFailure } from "../../ssh/openssh/failure.ts";
import { Heartbeat } from "./heartbeat.ts";
import { RouteFailure } from "./route-failure.ts";

/** Bytes that a line from a proxy may have; our words have 24. */
const MAX_LINE = 1024;
/** Bytes that a proxy may send between two echoes besides them, such as a greeting of its shell. */
const MAX_CHATTER = 65_536;

/** ms that ssh has to end after its session has, so that it can say why. */
const EXIT_TIME = 300;

/** How to connect to a proxy. */
export interface ProxyConnectionOptions {
  /** Command line of the ssh, made by `proxyArguments`. */
  readonly command: readonly string[];
  /** Name of the proxy in messages, such as `proxy a:22`. */
  readonly name: string;
  /** Milliseconds without an echo after which the proxy is taken for dead. */
  readonly silence: number;
  /** Milliseconds until the first echo. */
  readonly openTimeout: number;
  /** Gives up an attempt to connect. It has no effect on a connection that is up. */
  readonly signal?: AbortSignal;
  /** The device's child processes; the ssh is added to them. */
  readonly children: Children;
  /** Finds a better reason for the end of a session that the proxy let us open, and that came to nothing. */
  explain?(end: End): Promise<End>;
}

/** A connection to a proxy, from the attempt to open it to its end. */
export class ProxyConnection {
  readonly #child: Child;
  readonly #heartbeat: Heartbeat;
  readonly #up = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<End>();
  #timer: Timer;
  #isUp = false;
  /** The proxy has accepted our key. */
  #letIn = false;
  /** Who waits for the echo of a word. */
  readonly #pings = new Map<string, (rtt: number) => void>();

  private constructor(readonly options: ProxyConnectionOptions) {
    this.#heartbeat = new Heartbeat(options.silence, () => randomBytes(12).toString("hex"));
    this.#child = options.children.spawn(options.command, "pipe");
    this.#timer = setTimeout(
      () =>
        this.#end({
          kind: "silent",
          text: `${options.name} does not answer: no session within ${options.openTimeout} ms`,
        }),
      options.openTimeout,
    );
    void this.#child.printed(CONNECTED).then(() => {
      this.#letIn = true;
    });
    this.#beat();
    this.#listen().catch((error: unknown) =>
      this.#end({
        kind: "malformed",
        text: `${options.name} does not behave like a proxy: ${messageOf(error)}`,
      }),
    );
    void this.#child.exited.then(() => this.#end(this.#failure()));
  }

  /**
   * Connect to a proxy; the connection is up when this resolves.
   * @throws RouteFailure naming the proxy and the reason, when its ssh has ended.
   */
  static async open(options: ProxyConnectionOptions): Promise<ProxyConnection> {
    const { signal } = options;
    const proxy = new ProxyConnection(options);
    const giveUp = (): void => proxy.#end({ kind: "stopped", text: `${options.name}: given up` });
    signal?.addEventListener("abort", giveUp);
    if (signal?.aborted) giveUp();
    const end = await Promise.race([proxy.#up.promise, proxy.#ended.promise]);
    signal?.removeEventListener("abort", giveUp);
    if (end === undefined) return proxy;
    const explained = proxy.#letIn && end.kind !== "stopped" ? await options.explain?.(end) : undefined;
    await proxy.stop();
    throw new RouteFailure(explained ?? end);
  }

  /** Name of the proxy in messages. */
  get name(): string {
    return this.options.name;
  }

  /** Resolves to the reason when the connection ends, also by `stop()`. It never rejects. */
  get ended(): Promise<End> {
    return this.#ended.promise;
  }

  /** How many characters its ssh has printed to standard error until now, for `stderrSince`. */
  get mark(): number {
    return this.#child.mark;
  }

  /** What its ssh has printed to standard error after a mark, as far as it is kept. */
  stderrSince(mark: number): string {
    return this.#child.stderrSince(mark);
  }

  /** End the connection. Resolves when its ssh has ended. */
  async stop(): Promise<void> {
    this.#end({ kind: "stopped", text: `${this.name}: closed` });
    await this.#child.stop();
  }

  /** The round trip time to the proxy, ms; undefined when no answer comes within `patience` ms. */
  async ping(patience: number): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    const word = this.#beat();
    const timer = setTimeout(() => resolve(undefined), patience);
    this.#pings.set(word, resolve);
    void this.ended.then(() => resolve(undefined));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#pings.delete(word);
    }
  }

  /** Why its ssh has ended. */
  #failure(): End {
    const { name } = this.options;
    const end = explainSshFailure(this.#child.stderr.replace(CONNECTED, ""), name);
    if (!this.#letIn || end.kind !== "key-refused") return end;
    return { kind: "refused", text: `${name}: it let us in, and ended the session at once` };
  }

  #beat(): string {
    const word = this.#heartbeat.beat(performance.now());
    this.#child.write(`${word}\n`);
    return word;
  }

  async #listen(): Promise<void> {
    const cutter = new LineCutter(MAX_LINE);
    let chatter = 0;
    for await (const chunk of this.#child.output) {
      chatter += chunk.length;
      for (const line of cutter.push(chunk)) {
        const word = line.trim();
        const rtt = this.#heartbeat.receive(word, performance.now());
        if (rtt === undefined) continue;
        this.#pings.get(word)?.(rtt);
        chatter = 0;
        this.#alive();
      }
      if (chatter > MAX_CHATTER)
        throw new WaltError(`it sent more than ${MAX_CHATTER} bytes besides our heartbeat's echoes`);
    }
    // The session has ended. As long as there are forwarded connections, ssh goes on; if it ends, it knows why.
    await Promise.race([this.#child.exited, Bun.sleep(EXIT_TIME)]);
    this.#end({ kind: "closed", text: `${this.name}: it ended the session` });
  }

  /** Handle an echo. After the first one the connection is up, and a word is sent in each interval. */
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
      this.#end({ kind: "silent", text });
    }
  }

  /** End the connection. Only the first reason is kept. */
  #end(end: End): void {
    clearTimeout(this.#timer);
    this.#ended.resolve(end);
    if (!this.#child.stopping) void this.#child.stop();
  }
}
