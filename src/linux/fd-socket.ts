/** Sockets of the event loop as file descriptors, and the other way round. */

import type { Socket } from "node:net";
import { WaltError } from "../errors.ts";
import { duplicate, libc } from "./libc.ts";

/** Bun has a type for what this takes, but no overload of `connect` for it. */
const connect = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;

/**
 * A Bun socket on a file descriptor, which it owns from now on. One `data` is one recv(2), so that the
 * borders of datagrams stay.
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
 * The connection of a socket as a file descriptor of its own, which stays open when the socket is destroyed:
 * do that next. What the event loop has read already comes as the socket's `data` before this returns, and
 * nothing later.
 */
export function release(socket: Socket): number {
  socket.pause();
  while (socket.read() !== null);
  // Bun's own handle has the number; node does not tell it.
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: unknown } | null };
  if (typeof handle?.fd !== "number" || handle.fd < 0) throw new WaltError("the connection is closed");
  return duplicate(handle.fd);
}
