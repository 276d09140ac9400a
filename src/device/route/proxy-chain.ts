/** The way to the server: a chain of outer connections, one a proxy, each through the one before; or none at all. */

import { createServer } from "node:net";
import { type Entrypoint, formatHostPort, type HostPort } from "../../address.ts";
import { WaltError } from "../../errors.ts";
import type { Children } from "../../linux/child.ts";
import { hasAes } from "../../linux/cpu.ts";
import { outerArguments } from "../../ssh/openssh/arguments.ts";
import { ProxyConnection } from "./proxy-connection.ts";
import { forwardFailures, SshFailure } from "./ssh-failure.ts";

/** Seconds that ssh gives a TCP connection and the first words of the protocol: so that it can tell before we lose patience. */
export const CONNECT_TIMEOUT = 8;
/** ms from ssh's start to the first echo: name look-up, connection, key exchange on a slow board, a slow login. */
const OPEN_TIMEOUT = 40_000;
/** A local port can be taken by somebody else in the moment between our choice and ssh's use of it. */
const PORT_ATTEMPTS = 4;

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
  readonly #hops: ProxyConnection[] = [];
  readonly #watchers = new Set<(failure: SshFailure) => void>();
  #target: HostPort = { host: "127.0.0.1", port: 0 };
  #failure: SshFailure | undefined;

  private constructor(readonly options: ProxyChainOptions) {}

  /**
   * Open the hops, one after the other.
   * @throws SshFailure naming the proxy that failed.
   */
  static async open(options: ProxyChainOptions): Promise<ProxyChain> {
    const hops = new ProxyChain(options);
    try {
      const { entrypoint } = options;
      if ("proxies" in entrypoint) {
        for (const [index, proxy] of entrypoint.proxies.entries()) {
          const to = entrypoint.proxies[index + 1] ?? options.server;
          if (to === undefined)
            throw new WaltError("device.server is not set, and the entrypoint is a proxy");
          await hops.#add(proxy, to);
        }
      } else {
        hops.#target = entrypoint.direct;
      }
      return hops;
    } catch (error) {
      await hops.stop();
      throw error;
    }
  }

  /** Where the inner ssh connects. */
  get target(): HostPort {
    return this.#target;
  }

  /** All of them are still open. */
  get alive(): boolean {
    return this.#failure === undefined;
  }

  /**
   * The result of some work over the hops.
   * @throws SshFailure when one of them ends before the work does.
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

  /** Where the last hop's messages end now, for `explain`. */
  get mark(): number {
    return this.#hops.at(-1)?.mark ?? 0;
  }

  /** How the user calls the server. */
  get peer(): string {
    const { entrypoint, server } = this.options;
    const to = "direct" in entrypoint ? entrypoint.direct : server;
    return to === undefined ? "the server" : `the server ${formatHostPort(to)}`;
  }

  /** Why an ssh to the server failed: its own words, or the last proxy's when that one could not reach the server. */
  async explain(stderr: string, mark: number): Promise<SshFailure> {
    return await this.blame(SshFailure.of(stderr, this.peer), mark);
  }

  /** The same for a failure that has its words already. */
  async blame(failure: SshFailure, mark: number): Promise<SshFailure> {
    return await whyThrough(this.#hops.at(-1), mark, failure);
  }

  /** Close them, the last one first. */
  async stop(): Promise<void> {
    for (const hop of this.#hops.toReversed()) await hop.stop();
  }

  async #add(proxy: HostPort, to: HostPort): Promise<void> {
    const { options } = this;
    const before = this.#hops.at(-1);
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
        // An earlier hop that dies meanwhile is the better reason.
        const hop = await this.during(opened);
        this.#hops.push(hop);
        void hop.ended.then((failure) => this.#lost(failure));
        this.#target = { host: "127.0.0.1", port: localPort };
        return;
      } catch (error) {
        if (!(error instanceof SshFailure)) throw error;
        if (/local port/.test(error.message) && attempt < PORT_ATTEMPTS) continue;
        throw await whyThrough(before, mark, error);
      }
    }
  }

  #lost(failure: SshFailure): void {
    this.#failure ??= failure;
    for (const watcher of this.#watchers) watcher(failure);
  }
}

/** The reason of a failure behind a hop: that hop's own complaint where it could not reach what is behind it. */
async function whyThrough(
  hop: ProxyConnection | undefined,
  mark: number,
  failure: SshFailure,
): Promise<SshFailure> {
  if (hop === undefined) return failure;
  await Bun.sleep(20); // what the outer ssh wrote before the inner one gave up is read by then
  const complaints = forwardFailures(hop.stderrSince(mark));
  return complaints === "" ? failure : SshFailure.of(complaints, hop.name);
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
