/** Turns file descriptors into sockets of the event loop, and sockets into file descriptors. */

import type { Socket } from "node:net";
import { WaltError } from "../errors.ts";
import { duplicate, libc } from "./libc.ts";

/** Bun has a type for what this takes, but no overload of `connect` for it. */
const connect = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;

/**
 * Make a Bun socket of a connected file descriptor, which it owns from now on: the socket closes the descriptor
 * when it is closed itself. Each call of its handler `data` gets the result of one recv(2), which is one datagram
 * if the socket has datagrams.
 *
 * The cast is needed because Bun's types describe these options, but have no overload of `connect` that takes
 * them.
 * @throws when the descriptor cannot be connected; it is closed then.
 */
export async function connectFd(options: Bun.FdSocketOptions): Promise<Bun.Socket> {
  try {
    return await connect(options);
  } catch (error) {
    libc.close(options.fd); // Bun leaves it open
    throw error;
  }
}

/**
 * A new file descriptor of a socket's connection. Destroy the socket next: the descriptor stays open.
 *
 * Bytes that the event loop has read already are emitted as the socket's event `data` before this function
 * returns; none are emitted later.
 * @throws WaltError when the connection is closed.
 */
export function release(socket: Socket): number {
  socket.pause();
  while (socket.read() !== null);
  // The number is a field of Bun's internal handle: the interface of Node.js has no access to it.
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  if (typeof handle?.fd !== "number" || handle.fd < 0) throw new WaltError("the connection is closed");
  return duplicate(handle.fd);
}
