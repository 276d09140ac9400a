/** File descriptors that the event loop reads: any kind of socket, of whatever family. */

/**
 * A Bun socket on a file descriptor, which it owns from now on. One `data` is one recv(2), so that the borders of datagrams
 * stay. Bun has a type for what this takes, but no overload of `connect` for it.
 */
export const connectFd = Bun.connect as unknown as (options: Bun.FdSocketOptions) => Promise<Bun.Socket>;
