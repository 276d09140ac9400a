/**
 * A TCP port in front of an HTTP service of Bun's, which itself takes any number of connections: bounds them in all
 * and for each address, and ends those on which nothing happens.
 */

import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";
import type { HostPort } from "../../address.ts";
import { FairSet } from "../../fair-set.ts";
import { listenOn } from "../../linux/tcp-listen.ts";
import { plainAddress } from "../../source.ts";

/** Connections at once, and of one address: a node that boots needs one or two. */
const MOST = 512;
const EACH = 16;
/** ms without a byte after which a connection is ended. */
const IDLE = 120_000;

export class LimitedFront {
  /** Connections to the service by their local port, and whose they are. */
  readonly #clients = new Map<number, string>();
  readonly #open = new FairSet<Socket>(MOST, EACH);
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#take(socket));

  private constructor(readonly inner: HostPort) {}

  /**
   * @param inner where the service listens, on this machine's loopback
   * @throws WaltError when the address cannot be listened on.
   */
  static async start(
    listen: HostPort,
    inner: HostPort,
    failed: (error: Error) => void,
  ): Promise<LimitedFront> {
    const front = new LimitedFront(inner);
    await listenOn(front.#server, listen, failed);
    return front;
  }

  /** Whose a request is that came to the service from this port of the loopback. */
  clientOf(port: number): string | undefined {
    return this.#clients.get(port);
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  readonly #sockets = new Set<Socket>();

  #take(socket: Socket): void {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) {
      socket.destroy(); // it has gone already
      return;
    }
    const client = plainAddress(remoteAddress);
    const service = createConnection({ host: this.inner.host, port: this.inner.port, allowHalfOpen: true });
    let port = 0;
    const end = (): void => {
      socket.destroy();
      service.destroy();
      this.#sockets.delete(socket);
      this.#open.delete(socket);
      this.#clients.delete(port);
    };
    for (const one of [socket, service]) one.on("error", end).on("close", end);
    socket.setTimeout(IDLE, end);
    this.#sockets.add(socket);
    this.#open.add(socket, client)?.destroy();
    service.once("connect", () => {
      ({ port = 0 } = service.address() as Partial<AddressInfo>);
      this.#clients.set(port, client);
      socket.pipe(service);
      service.pipe(socket);
    });
  }
}
