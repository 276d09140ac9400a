/** Turns file descriptors into sockets of the event loop, and sockets into file descriptors. */

import type { Socket } from "node:net";
import { WaltError } from "../errors.ts";
import { duplicate } from "./libc.ts";

/**
 * Make a Bun socket of a connected file descriptor. The socket closes the descriptor when it is closed
 * itself. Each call of its handler `data` gets the result of one recv(2), which is one datagram if the socket
 * has datagrams.
 *
 * The cast is needed because Bun's types describe these options, but have no overload of `connect` that takes
 * them.
 */
export const connectFd = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;

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
