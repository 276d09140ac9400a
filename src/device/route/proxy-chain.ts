/** The route to the server: a chain of connections to proxies, each through the one before; an empty chain where it is reached directly. */

import { createServer } from "node:net";
import { type Entrypoint, formatHostPort, type HostPort } from "../../address.ts";
import type { End } from "../../end.ts";
import { WaltError } from "../../errors.ts";
import type { Children } from "../../linux/child.ts";
import { hasAes } from "../../linux/cpu.ts";
import { outerArguments } from "../../ssh/openssh/arguments.ts";
import { explainSshFailure, forwardFailures } from "../../ssh/openssh/failure.ts";
import { ProxyConnection } from "./proxy-connection.ts";
import { RouteFailure } from "./route-failure.ts";

/** Seconds that ssh gives a TCP connection and the first words of the protocol: so that it can tell before we lose patience. */
export const CONNECT_TIMEOUT = 8;
/** ms from ssh's start to the first echo: name look-up, connection, key exchange on a slow board, a slow login. */
const OPEN_TIMEOUT = 40_000;
/** Attempts at a local port: somebody else may take it in the moment between our choice and ssh's use of it. */
const PORT_ATTEMPTS = 4;
/** ms for what a proxy's ssh wrote to be read, once the ssh behind it has given up. */
const COMPLAINT_TIME = 20;

export interface ProxyChainOptions {
  readonly entrypoint: Entrypoint;
  /** The server as the last proxy names it. Not used without proxies. */
  readonly server: HostPort | undefined;
  readonly keyFile: string;
  readonly certificateFile?: string;
  readonly knownHosts: string;
  /** ms without an echo after which a proxy is taken for dead. */
  readonly silence: number;
  readonly children: Children;
}

export class ProxyChain {
  readonly #proxies: ProxyConnection[] = [];
  readonly #watchers = new Set<(failure: RouteFailure) => void>();
  #target: HostPort = { host: "127.0.0.1", port: 0 };
  #failure: RouteFailure | undefined;

  private constructor(readonly options: ProxyChainOptions) {}

  /**
   * Connect to the proxies, one after the other.
   * @throws RouteFailure naming the proxy that failed.
   */
  static async open(options: ProxyChainOptions): Promise<ProxyChain> {
    const chain = new ProxyChain(options);
    try {
      const { entrypoint } = options;
      if ("proxies" in entrypoint) {
        for (const [index, proxy] of entrypoint.proxies.entries()) {
          const to = entrypoint.proxies[index + 1] ?? options.server;
          if (to === undefined)
            throw new WaltError("device.server is not set, and the entrypoint is a proxy");
          await chain.#add(proxy, to);
        }
      } else {
        chain.#target = entrypoint.direct;
      }
      return chain;
    } catch (error) {
      await chain.stop();
      throw error;
    }
  }

  /** Where the connection to the server is to go. */
  get target(): HostPort {
    return this.#target;
  }

  /** All connections are still open. */
  get alive(): boolean {
    return this.#failure === undefined;
  }

  /**
   * The result of some work over the chain.
   * @throws RouteFailure when a connection ends before the work does.
   */
  during<T>(work: Promise<T>): Promise<T> {
    if (this.#failure !== undefined) {
      work.catch(() => {}); // nobody waits for it any more
      return Promise.reject(this.#failure);
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#watchers.add(reject);
    work.then(resolve, reject).finally(() => this.#watchers.delete(reject));
    return promise;
  }

  /** Where the messages of the last proxy's ssh end now, for `explain`. */
  get mark(): number {
    return this.#proxies.at(-1)?.mark ?? 0;
  }

  /** How the user calls the server. */
  get peer(): string {
    const { entrypoint, server } = this.options;
    const to = "direct" in entrypoint ? entrypoint.direct : server;
    return to === undefined ? "the server" : `the server ${formatHostPort(to)}`;
  }

  /** Why an ssh to the server failed: its own words, or the last proxy's when that one could not reach the server. */
  async explain(stderr: string, mark: number): Promise<End> {
    return await this.blame(explainSshFailure(stderr, this.peer), mark);
  }

  /** The same for an end that has its words already. */
  async blame(end: End, mark: number): Promise<End> {
    return await causeAt(this.#proxies.at(-1), mark, end);
  }

  /** Close them, the last one first. */
  async stop(): Promise<void> {
    for (const proxy of this.#proxies.toReversed()) await proxy.stop();
  }

  async #add(proxy: HostPort, to: HostPort): Promise<void> {
    const { options } = this;
    const before = this.#proxies.at(-1);
    const mark = before?.mark ?? 0;
    const alias = formatHostPort(proxy);
    for (let attempt = 1; ; attempt++) {
      const localPort = await freePort();
      const command = outerArguments({
        connect: before === undefined ? proxy : this.#target,
        alias,
        keyFile: options.keyFile,
        ...(options.certificateFile === undefined ? {} : { certificateFile: options.certificateFile }),
        knownHosts: options.knownHosts,
        forward: { localPort, to },
        connectTimeout: CONNECT_TIMEOUT,
        aes: hasAes(),
      });
      const { silence, children } = options;
      try {
        const opened = ProxyConnection.open({
          command,
          name: `proxy ${alias}`,
          silence,
          openTimeout: OPEN_TIMEOUT,
          children,
        });
        // An earlier connection that ends meanwhile is the better reason.
        const connection = await this.during(opened);
        this.#proxies.push(connection);
        void connection.ended.then((end) => this.#lost(new RouteFailure(end)));
        this.#target = { host: "127.0.0.1", port: localPort };
        return;
      } catch (error) {
        if (!(error instanceof RouteFailure)) throw error;
        if (error.end.kind === "port-taken" && attempt < PORT_ATTEMPTS) continue;
        throw new RouteFailure(await causeAt(before, mark, error.end));
      }
    }
  }

  #lost(failure: RouteFailure): void {
    this.#failure ??= failure;
    for (const watcher of this.#watchers) watcher(failure);
  }
}

/** The cause of a failure behind a proxy: that proxy's own complaint where it could not reach what is behind it. */
async function causeAt(proxy: ProxyConnection | undefined, mark: number, end: End): Promise<End> {
  if (proxy === undefined) return end;
  await Bun.sleep(COMPLAINT_TIME);
  const complaints = forwardFailures(proxy.stderrSince(mark));
  return complaints === "" ? end : explainSshFailure(complaints, proxy.name);
}

/** A port of 127.0.0.1 that nobody uses now. */
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
