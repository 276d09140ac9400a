/** A command on the server's endpoint, run by OpenSSH's ssh over the proxies, and the lines that both say. */

import { MAX_LINE } from "../../enrolment/messages.ts";
import { WaltError } from "../../errors.ts";
import type { Child, Children } from "../../linux/child.ts";
import { LineCutter } from "../../linux/lines.ts";
import { innerArguments } from "../../ssh/openssh/arguments.ts";
import { serverWords } from "../../ssh/openssh/failure.ts";
import { CONNECT_TIMEOUT, type ProxyChain } from "./proxy-chain.ts";
import { RouteFailure } from "./route-failure.ts";

/** A conversation in lines. */
export interface Lines {
  /**
   * The next line, without its newline; undefined when there are no more.
   * @throws WaltError when it is too long, or does not come within `timeout` ms.
   */
  next(timeout: number): Promise<string | undefined>;
  write(text: string): void;
}

/** The lines of a child's standard output. */
export class ChildLines implements Lines {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #cutter = new LineCutter(MAX_LINE);
  readonly #lines: string[] = [];

  constructor(readonly child: Child) {
    this.#chunks = child.output[Symbol.asyncIterator]();
  }

  async next(timeout: number): Promise<string | undefined> {
    const deadline = performance.now() + timeout;
    while (this.#lines.length === 0) {
      const { done, value } = await this.#read(deadline - performance.now(), timeout);
      if (done) return undefined;
      this.#lines.push(...this.#cutter.push(value));
    }
    return this.#lines.shift();
  }

  async #read(left: number, timeout: number) {
    const late = Promise.withResolvers<never>();
    const error = new WaltError(`the server says nothing for ${Math.round(timeout / 1000)} s`);
    const timer = setTimeout(() => late.reject(error), Math.max(0, left));
    try {
      return await Promise.race([this.#chunks.next(), late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  write(text: string): void {
    this.child.write(text);
  }
}

export interface ServerCommandOptions {
  readonly proxies: ProxyChain;
  /** The key that the server knows us by, or the enrolment key. */
  readonly keyFile: string;
  readonly knownHosts: string;
  /** Undefined: none, for a server that speaks the original framing. */
  readonly command: string | undefined;
  readonly children: Children;
}

/** How to start the inner ssh for a command. */
export function innerCommand(o: ServerCommandOptions & { alive?: number }): string[] {
  const { keyFile, knownHosts, command } = o;
  return innerArguments({
    connect: o.proxies.target,
    keyFile,
    knownHosts,
    command,
    connectTimeout: CONNECT_TIMEOUT,
    ...(o.alive === undefined ? {} : { alive: o.alive }),
  });
}

/**
 * Run a command on the server and talk with it; it is ended when `talk` is.
 * @throws RouteFailure when ssh fails or a hop dies; whatever `talk` throws.
 */
export async function runServerCommand<T>(
  o: ServerCommandOptions,
  talk: (lines: Lines) => Promise<T>,
): Promise<T> {
  const mark = o.proxies.mark;
  const child = o.children.spawn(innerCommand(o), "pipe");
  try {
    return await o.proxies.during(talk(new ChildLines(child)));
  } catch (error) {
    // An ssh that failed says why; the conversation then only broke off. 255 is ssh's own failure (ssh(1)).
    const status = await Promise.race([child.exited, Bun.sleep(100)]);
    if (status === 255 && o.proxies.alive)
      throw new RouteFailure(await o.proxies.explain(child.stderr, mark));
    const words = serverWords(child.stderr);
    if (words !== undefined) throw new RouteFailure({ kind: "refused", text: words });
    throw error;
  } finally {
    await child.stop();
  }
}
