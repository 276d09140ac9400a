/** Runs a command on the server by OpenSSH's ssh, through the proxies, and exchanges lines with it. */

import { MAX_LINE } from "../../enrolment/messages.ts";
import { WaltError } from "../../errors.ts";
import type { Child, Children } from "../../linux/child.ts";
import { LineCutter } from "../../linux/lines.ts";
import { within } from "../../linux/sleep.ts";
import { serverArguments } from "../../ssh/openssh/arguments.ts";
import { serverWords } from "../../ssh/openssh/failure.ts";
import { CONNECT_TIMEOUT, type ProxyChain } from "./proxy-chain.ts";
import { RouteFailure } from "./route-failure.ts";

/** A conversation with the server in lines. */
export interface Lines {
  /**
   * The next line of the server, without its newline; undefined when there are no more.
   * @param timeout milliseconds.
   * @throws WaltError when the line is too long, or does not come within `timeout`.
   */
  next(timeout: number): Promise<string | undefined>;
  /** Send text, which must end in a newline. */
  write(text: string): void;
}

/** A conversation with a child, by its standard input and output. */
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
      const late = new WaltError(`the server sent nothing for ${Math.round(timeout / 1000)} s`);
      const left = Math.max(0, deadline - performance.now());
      const { done, value } = await within(left, this.#chunks.next(), late);
      if (done) return undefined;
      this.#lines.push(...this.#cutter.push(value));
    }
    return this.#lines.shift();
  }

  write(text: string): void {
    this.child.write(text);
  }
}

/** Which command to run, and how to reach the server. */
export interface ServerCommandOptions {
  /** The chain through which the server is reached. */
  readonly proxies: ProxyChain;
  /** Paths of private keys: the device key, or the enrolment keys. */
  readonly keyFiles: readonly string[];
  /** Path of the file with the pinned host keys. */
  readonly knownHosts: string;
  /** `enrol`, `renew` or `tunnel via=…`; undefined for a server of WalT's own VPN, which needs no command. */
  readonly command: string | undefined;
  /** The device's child processes; the ssh is added to them. */
  readonly children: Children;
}

/**
 * The command line of the ssh that runs a command on the server.
 * @param o `alive`: seconds of silence after which ssh asks the server for a sign of life.
 */
export function serverCommandLine(o: ServerCommandOptions & { alive?: number }): string[] {
  const { keyFiles, knownHosts, command } = o;
  return serverArguments({
    connect: o.proxies.target,
    keyFiles,
    knownHosts,
    command,
    connectTimeout: CONNECT_TIMEOUT,
    ...(o.alive === undefined ? {} : { alive: o.alive }),
  });
}

/**
 * Run a command on the server, and return the result of the conversation with it. The command is ended after
 * `talk`.
 * @throws RouteFailure when ssh fails, a connection to a proxy ends or the server refuses; whatever `talk`
 *   throws otherwise.
 */
export async function runServerCommand<T>(
  o: ServerCommandOptions,
  talk: (lines: Lines) => Promise<T>,
): Promise<T> {
  const mark = o.proxies.mark;
  const child = o.children.spawn(serverCommandLine(o), "pipe");
  try {
    return await o.proxies.during(talk(new ChildLines(child)));
  } catch (error) {
    // When ssh itself failed, it has printed the reason, and the error of the conversation is only a
    // consequence. ssh then ends with the status 255 (ssh(1)).
    const status = await Promise.race([child.exited, Bun.sleep(100)]);
    if (status === 255 && o.proxies.alive)
      throw new RouteFailure(await o.proxies.explainStderr(child.stderr, mark));
    const words = serverWords(child.stderr);
    if (words !== undefined) throw new RouteFailure({ kind: "refused", text: words });
    throw error;
  } finally {
    await child.stop();
  }
}
