/** A command on an SSH server, as a connection that can go on in the pump's thread: what the device's tunnel is. */

import { connect, type Socket } from "node:net";
import ssh2, { type ClientChannel } from "ssh2";
import { messageOf } from "../errors.ts";
import type { HostPort } from "./address.ts";
import { VPN_USER } from "./certificate.ts";
import type { ConnectionState } from "./connection-state.ts";
import type { KeyPair, PublicKey } from "./ed25519.ts";
import { fingerprint, KEY_TYPE, publicKeyOfBlob } from "./ed25519.ts";
import { KEY_REFUSED, wrongHostKey } from "./failure.ts";
import { Handover } from "./handover.ts";
import { encodePrivateKey } from "./key-files.ts";
import { ALGORITHMS } from "./serve.ts";

export interface ChannelOptions {
  readonly connect: HostPort;
  /** Who we are. */
  readonly key: KeyPair;
  /** What the server's host key may be. */
  readonly hostKeys: readonly PublicKey[];
  readonly command: string;
  /** ms that a TCP connection may take, and after it all until the command runs. */
  readonly connectTimeout: number;
  readonly openTimeout: number;
  readonly signal: AbortSignal;
}

/** Why there is no channel: what is wrong with the server, in words that go behind its name. */
export class ChannelError extends Error {
  constructor(
    message: string,
    /** The key is not accepted; nothing came in time. */
    readonly kind: "refused" | "silent" | "other" = "other",
  ) {
    super(message);
  }
}

/**
 * Connect, check the server's host key, authenticate, and run the command. The connection is the caller's then, as a file descriptor.
 * @throws ChannelError
 */
export async function openChannel(o: ChannelOptions): Promise<{ fd: number; state: ConnectionState }> {
  const socket = await reach(o);
  const client = new ssh2.Client();
  const failed = Promise.withResolvers<never>();
  const fail = (error: ChannelError): void => failed.reject(error);
  failed.promise.catch(() => {}); // it may come when nobody waits any more
  const abort = (): void => fail(new ChannelError("it is no longer wanted"));
  o.signal.addEventListener("abort", abort);
  const timer = setTimeout(
    () => fail(new ChannelError("it takes connections, but does not speak SSH (timed out)", "silent")),
    o.openTimeout,
  );
  try {
    let hostKey: Uint8Array = new Uint8Array();
    const pinned = o.hostKeys.map((key) => key.blob);
    client.on("error", (error) => fail(failureOf(error)));
    client.on("close", () => fail(new ChannelError("it closed the connection")));
    client.connect({
      sock: socket,
      ident: "walt",
      username: VPN_USER,
      privateKey: encodePrivateKey(o.key),
      authHandler: ["publickey"],
      algorithms: ALGORITHMS,
      readyTimeout: 0,
      hostVerifier: (shown: Buffer) => {
        if (pinned.some((blob) => blob.equals(shown))) {
          hostKey = Uint8Array.from(shown);
          return true;
        }
        fail(new ChannelError(strange(shown)));
        return false;
      },
    });
    const handover = new Handover(client, socket);
    const channel = await Promise.race([failed.promise, run(client, o.command, handover)]);
    return await handover.take(channel, { end: "client", hostKey });
  } catch (error) {
    throw error instanceof ChannelError ? error : new ChannelError(messageOf(error));
  } finally {
    clearTimeout(timer);
    o.signal.removeEventListener("abort", abort);
    socket.destroy();
  }
}

/** A connection to it. */
function reach({ connect: to, connectTimeout, signal }: ChannelOptions): Promise<Socket> {
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
    const abort = (): void => done(new ChannelError("it is no longer wanted"));
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
    socket.once("connect", () => done());
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ETIMEDOUT") silent();
      else done(new ChannelError(unreachable(error, to)));
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

/** The channel, frozen from the moment at which the command is accepted. */
function run(client: ssh2.Client, command: string, handover: Handover): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.once("ready", () => {
      client.exec(command, (error, channel) => {
        if (error !== undefined) return reject(new ChannelError("it refused what was asked of it"));
        handover.freeze();
        channel.on("error", () => {});
        resolve(channel);
      });
    });
  });
}

function strange(shown: Buffer): string {
  try {
    return wrongHostKey(KEY_TYPE, fingerprint(publicKeyOfBlob(shown, "")));
  } catch {
    return wrongHostKey();
  }
}

function failureOf(error: Error & { level?: string; code?: string }): ChannelError {
  switch (error.level) {
    case "client-authentication":
      return new ChannelError(KEY_REFUSED, "refused");
    case "handshake":
      return new ChannelError(`it has nothing in common with us (${messageOf(error)})`);
    case "client-socket":
      return new ChannelError(`the connection broke (${messageOf(error)})`);
    default:
      return new ChannelError(`it does not speak SSH as we do (${messageOf(error)})`);
  }
}
