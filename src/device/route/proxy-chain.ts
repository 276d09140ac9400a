/**
 * The chain of connections to proxies, each through the one before. It is empty when the server is reached
 * directly.
 */

import { createServer } from "node:net";
import { type Entrypoint, formatHostPort, type HostPort, type ProxyAddress } from "../../address.ts";
import type { Hop } from "../../control/hops.ts";
import type { End } from "../../end.ts";
import { WaltError } from "../../errors.ts";
import type { Children } from "../../linux/child.ts";
import { hasAes } from "../../linux/cpu.ts";
import { proxyArguments } from "../../ssh/openssh/arguments.ts";
import { explainSshFailure, forwardFailures } from "../../ssh/openssh/failure.ts";
import { ProxyConnection } from "./proxy-connection.ts";
import { RouteFailure } from "./route-failure.ts";
import { unlessWaltProxy } from "./walt-proxy.ts";

/**
 * Seconds in which ssh must have a TCP connection and the peer's first line. It is shorter than our own
 * time-outs, so that ssh can report the reason before they end it.
 */
export const CONNECT_TIMEOUT = 8;
/**
 * Milliseconds from ssh's start to the first echo: name look-up, connection, key exchange on a slow board,
 * slow login.
 */
const OPEN_TIMEOUT = 40_000;
/** How many local ports are tried: another program may take a port between our choice and ssh's use of it. */
const PORT_ATTEMPTS = 4;
/** Milliseconds until the messages of a proxy's ssh are read, after the ssh behind it has failed. */
const STDERR_DELAY = 20;

/** How to reach the server. */
export interface ProxyChainOptions {
  readonly entrypoint: Entrypoint;
  /** Address of the server for the last proxy. It is not used without proxies. */
  readonly server: HostPort | undefined;
  /** Paths of the private keys with which the proxies are asked: the device key or the enrolment keys. */
  readonly keyFiles: readonly string[];
  /** Paths of certificates of the device key. */
  readonly certificateFiles?: readonly string[];
  /** Path of the file with the pinned host keys. */
  readonly knownHosts: string;
  /** Milliseconds without an echo after which a proxy is taken for dead. */
  readonly silence: number;
  /** The device's child processes; those of ssh are added to them. */
  readonly children: Children;
  /** Gives up the attempt to open the chain. It has no effect on one that is open. */
  readonly signal: AbortSignal;
}

/** A chain that is open, until `stop()`. */
export class ProxyChain {
  readonly #proxies: ProxyConnection[] = [];
  readonly #watchers = new Set<(failure: RouteFailure) => void>();
  #target: HostPort = { host: "127.0.0.1", port: 0 };
  #failure: RouteFailure | undefined;
  /** Gives up the attempt to connect to the next proxy, when an earlier connection ends. */
  readonly #attempt = new AbortController();

  private constructor(readonly options: ProxyChainOptions) {}

  /**
   * Connect to the proxies, one after the other.
   * @throws RouteFailure naming the proxy that failed, and WaltError when the server's address is not
   *   configured.
   */
  static async open(options: ProxyChainOptions): Promise<ProxyChain> {
    const chain = new ProxyChain(options);
    const giveUp = (): void => chain.#attempt.abort();
    options.signal.addEventListener("abort", giveUp);
    if (options.signal.aborted) giveUp();
    try {
      const { entrypoint } = options;
      if ("proxies" in entrypoint) {
        for (const [index, proxy] of entrypoint.proxies.entries()) {
          const to = entrypoint.proxies[index + 1] ?? options.server;
          if (to === undefined)
            throw new WaltError("device.server is not set, but the entrypoint is a proxy");
          await chain.#add(proxy, to);
        }
      } else {
        chain.#target = entrypoint.direct;
      }
      return chain;
    } catch (error) {
      await chain.stop();
      throw error;
    } finally {
      options.signal.removeEventListener("abort", giveUp);
    }
  }

  /**
   * The address to connect to in order to reach the server: the last forwarded port, or the server itself.
   */
  get target(): HostPort {
    return this.#target;
  }

  /** Whether all connections are still open. */
  get alive(): boolean {
    return this.#failure === undefined;
  }

  /**
   * Wait for work that uses the chain, and return its result.
   * @throws RouteFailure when a connection ends before the work does, and whatever the work throws.
   */
  during<T>(work: Promise<T>): Promise<T> {
    if (this.#failure !== undefined) {
      work.catch(() => {}); // its failure is a consequence of ours
      return Promise.reject(this.#failure);
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#watchers.add(reject);
    work.then(resolve, reject).finally(() => this.#watchers.delete(reject));
    return promise;
  }

  /**
   * How many characters the last proxy's ssh has printed until now. To be taken before something is done over
   * the chain, for `explainStderr` and `explainEnd`.
   */
  get mark(): number {
    return this.#proxies.at(-1)?.mark ?? 0;
  }

  /** Name of the server in messages, such as `the server walt.example:2222`. */
  get peer(): string {
    const { entrypoint, server } = this.options;
    const to = "direct" in entrypoint ? entrypoint.direct : server;
    return to === undefined ? "the server" : `the server ${formatHostPort(to)}`;
  }

  /**
   * Why an ssh to the server failed. If the last proxy could not reach the server, that is the reason.
   * @param stderr what the ssh printed.
   * @param mark `mark` before the ssh was started.
   */
  async explainStderr(stderr: string, mark: number): Promise<End> {
    return await this.explainEnd(explainSshFailure(stderr, this.peer), mark);
  }

  /** As `explainStderr`, for a failure whose reason is `end` unless the last proxy knows a better one. */
  async explainEnd(end: End, mark: number): Promise<End> {
    return await causeAt(this.#proxies.at(-1), mark, end);
  }

  /**
   * Measure the round trip times to all proxies.
   * @param rounds measurements, one after the other with `pause` ms between them.
   * @returns for each proxy those of all rounds, ms; null where none came within `patience` ms.
   */
  async hops(rounds: number, pause: number, patience: number): Promise<Hop[]> {
    const all: { name: string; pings: Promise<number | undefined>[] }[] = this.#proxies.map((proxy) => ({
      ...{ name: proxy.name.replace(/^proxy /, ""), pings: [] },
    }));
    for (let round = 0; round < rounds; round++) {
      if (round > 0) await Bun.sleep(pause);
      for (const [index, proxy] of this.#proxies.entries()) all[index]?.pings.push(proxy.ping(patience));
    }
    const measured = all.map(async ({ name, pings }) => {
      const rtts = (await Promise.all(pings)).map((rtt) => rtt ?? null);
      return { name, rtts };
    });
    return await Promise.all(measured);
  }

  /** Close all connections, the last one first. Resolves when their processes have ended. */
  async stop(): Promise<void> {
    for (const proxy of this.#proxies.toReversed()) await proxy.stop();
  }

  /** Add a connection to the next proxy, which forwards a local port to the hop behind it. */
  async #add(proxy: ProxyAddress, to: HostPort): Promise<void> {
    const { options } = this;
    const before = this.#proxies.at(-1);
    const mark = before?.mark ?? 0;
    const alias = formatHostPort(proxy);
    const connect = before === undefined ? proxy : this.#target;
    const name = `proxy ${alias}`;
    for (let attempt = 1; ; attempt++) {
      const localPort = await freePort();
      const command = proxyArguments({
        connect,
        user: proxy.user,
        alias,
        keyFiles: options.keyFiles,
        ...(options.certificateFiles === undefined ? {} : { certificateFiles: options.certificateFiles }),
        knownHosts: options.knownHosts,
        forward: { localPort, to },
        connectTimeout: CONNECT_TIMEOUT,
        aes: hasAes(),
      });
      const { silence, children } = options;
      try {
        const connection = await ProxyConnection.open({
          command,
          name,
          silence,
          openTimeout: OPEN_TIMEOUT,
          signal: this.#attempt.signal,
          children,
          explain: (end) =>
            unlessWaltProxy(
              { ...options, connect, user: proxy.user, alias, to, signal: this.#attempt.signal },
              name,
              end,
            ),
        });
        this.#proxies.push(connection);
        void connection.ended.then((end) => this.#lost(new RouteFailure(end)));
        this.#target = { host: "127.0.0.1", port: localPort };
        return;
      } catch (error) {
        const failure = this.#failure ?? error; // an earlier connection that ended meanwhile is the reason
        if (!(failure instanceof RouteFailure)) throw failure;
        if (failure.end.kind === "port-taken" && attempt < PORT_ATTEMPTS) continue;
        throw new RouteFailure(await causeAt(before, mark, failure.end));
      }
    }
  }

  #lost(failure: RouteFailure): void {
    this.#failure ??= failure;
    this.#attempt.abort();
    for (const watcher of this.#watchers) watcher(failure);
  }
}

/**
 * The reason of a failure behind a proxy: the proxy's message when it could not reach the next hop, otherwise
 * `end`.
 * @param proxy the last proxy before the failure; undefined when there is none.
 * @param mark of that proxy's connection, before the attempt that failed.
 */
async function causeAt(proxy: ProxyConnection | undefined, mark: number, end: End): Promise<End> {
  if (proxy === undefined) return end;
  await Bun.sleep(STDERR_DELAY);
  const complaints = forwardFailures(proxy.stderrSince(mark));
  return complaints === "" ? end : explainSshFailure(complaints, proxy.name);
}

/** A TCP port of 127.0.0.1 that is not in use now. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
