/**
 * Connections of our own to an SSH server: a command on WalT's server, as a connection that can go on in the
 * pump's thread, which is what the device's tunnel is; and the question what a server permits.
 */

import { connect, type Socket } from "node:net";
import type { HostPort } from "../../address.ts";
import type { EndKind } from "../../end.ts";
import { messageOf } from "../../errors.ts";
import { release } from "../../linux/fd-socket.ts";
import {
  ClientHandshake,
  HandshakeError,
  KeyRefused,
  type Login,
  type Permissions,
  type Wire,
} from "../handshake/client.ts";
import type { ConnectionState } from "../handshake/connection-state.ts";
import { WrongHostKey } from "../handshake/key-exchange.ts";
import { fingerprint, KEY_TYPE, type KeyPair, type PublicKey, publicKeyOfBlob } from "../keys/ed25519.ts";
import { KEY_REFUSED, wrongHostKey } from "../openssh/failure.ts";

const STOPPED = "this side stopped the attempt";

export interface ConnectOptions {
  readonly connect: HostPort;
  /** Who we are. */
  readonly key: KeyPair;
  readonly login?: Login;
  /** What the server's host key may be. */
  readonly hostKeys: readonly PublicKey[];
  /** ms that a TCP connection may take, and after it all until the end of what is asked. */
  readonly connectTimeout: number;
  readonly openTimeout: number;
  readonly signal: AbortSignal;
}

export interface ChannelOptions extends ConnectOptions {
  readonly command: string;
}

/** Why there is no channel: what is wrong with the server, in words that go behind its name. */
export class ChannelError extends Error {
  constructor(
    message: string,
    readonly kind: EndKind = "failed",
  ) {
    super(message);
  }
}

/**
 * Connect, check the server's host key, authenticate, and run the command. The connection is the caller's then, as a file descriptor.
 * @throws ChannelError
 */
export async function openChannel(o: ChannelOptions): Promise<{ fd: number; state: ConnectionState }> {
  return await connected(o, async (handshake, socket, wire) => {
    const state = await handshake.run(o.command);
    const fd = release(socket);
    return { fd, state: { ...state, unread: Buffer.concat([state.unread, ...wire.rest()]) } };
  });
}

/**
 * Connect, check the server's host key, authenticate, and ask what the server permits besides a session.
 * @param to where it may forward to.
 * @throws ChannelError
 */
export async function askPermissions(o: ConnectOptions, to: HostPort): Promise<Permissions> {
  return await connected(o, (handshake) => handshake.permissions(to));
}

/** What `use` returns, with a connection that is closed afterwards unless its socket was released. */
async function connected<T>(
  o: ConnectOptions,
  use: (handshake: ClientHandshake, socket: Socket, wire: SocketWire) => Promise<T>,
): Promise<T> {
  const socket = await reach(o);
  const silent = "it takes connections, but does not speak SSH (timed out)";
  const wire = new SocketWire(socket);
  const timer = setTimeout(() => wire.stop(new ChannelError(silent, "silent")), o.openTimeout);
  const abort = (): void => wire.stop(new ChannelError(STOPPED, "stopped"));
  o.signal.addEventListener("abort", abort);
  const hostKeys = o.hostKeys.map((key) => key.blob);
  try {
    return await use(new ClientHandshake(wire, hostKeys, o.key, o.login), socket, wire);
  } catch (error) {
    throw failureOf(error);
  } finally {
    clearTimeout(timer);
    o.signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** A socket whose bytes wait until they are asked for. */
class SocketWire implements Wire {
  readonly #came: Uint8Array[] = [];
  #failure: Error | undefined;
  #waiter: PromiseWithResolvers<Uint8Array> | undefined;

  constructor(readonly socket: Socket) {
    socket.on("data", (bytes: Buffer) => {
      this.#came.push(bytes);
      this.#wake();
    });
    socket.on("error", (error) =>
      this.stop(new ChannelError(`the connection broke (${messageOf(error)})`, "broken")),
    );
    socket.on("close", () => this.stop(new ChannelError("it closed the connection", "closed")));
  }

  read(): Promise<Uint8Array> {
    this.#waiter = Promise.withResolvers();
    const { promise } = this.#waiter;
    this.#wake();
    return promise;
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }

  /** What came and was not asked for. */
  rest(): Uint8Array[] {
    return this.#came.splice(0);
  }

  /** Only the first reason counts. */
  stop(error: Error): void {
    this.#failure ??= error;
    this.#wake();
  }

  #wake(): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    const bytes = this.#came.shift();
    if (bytes !== undefined) waiter.resolve(bytes);
    else if (this.#failure !== undefined) waiter.reject(this.#failure);
    else return;
    this.#waiter = undefined;
  }
}

/** A TCP connection. */
function reach({ connect: to, connectTimeout, signal }: ConnectOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: to.host, port: to.port, noDelay: true });
    const done = (error?: ChannelError): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      if (error === undefined) {
        resolve(socket);
      } else {
        socket.destroy();
        reject(error);
      }
    };
    const silent = (): void => done(new ChannelError("it does not answer (connection timed out)", "silent"));
    const timer = setTimeout(silent, connectTimeout);
    const abort = (): void => done(new ChannelError(STOPPED, "stopped"));
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    socket.once("connect", () => done());
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ETIMEDOUT") silent();
      else done(new ChannelError(unreachable(error, to), "unreachable"));
    });
  });
}

function unreachable(error: NodeJS.ErrnoException, to: HostPort): string {
  if (error.code === "ECONNREFUSED") return `nothing listens on its port ${to.port} (connection refused)`;
  if (error.code === "ENOTFOUND" || error.syscall === "getaddrinfo") {
    return `its name cannot be resolved (${messageOf(error)})`;
  }
  return `it cannot be reached (${messageOf(error)})`;
}

function failureOf(error: unknown): ChannelError {
  if (error instanceof ChannelError) return error;
  if (error instanceof KeyRefused) return new ChannelError(KEY_REFUSED, "key-refused");
  if (error instanceof WrongHostKey) return new ChannelError(strange(error.blob), "wrong-host-key");
  if (error instanceof HandshakeError) return new ChannelError(error.message);
  return new ChannelError(`it does not speak SSH as we do (${messageOf(error)})`, "malformed");
}

function strange(shown: Uint8Array): string {
  try {
    return wrongHostKey(KEY_TYPE, fingerprint(publicKeyOfBlob(shown, "")));
  } catch {
    return wrongHostKey();
  }
}
