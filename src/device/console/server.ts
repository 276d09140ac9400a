/** Serves the node's serial console to programs on this machine: plain bytes both ways over a UNIX socket. */

import { rmSync } from "node:fs";
import { messageOf, WaltError } from "../../errors.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { SerialConsole } from "./ring.ts";

/** Bytes that are kept for a watcher that does not read, besides those in the socket's own buffer. */
const BEHIND = 262_144;
/** Watchers that may be attached at the same time. */
export const WATCHERS = 16;

interface Watcher {
  out: BoundedSocket;
  /** Stop the output to this watcher. */
  unwatch(): void;
}

/** A running server. */
export interface ConsoleServer {
  /** Detach all watchers, and remove the socket. */
  stop(): void;
}

/** What a watcher sees in place of output that it was too slow for. */
const gap = (skipped: number): Uint8Array =>
  new TextEncoder().encode(`\r\n[walt: ${skipped} bytes left out]\r\n`);

/**
 * Serve a console on a socket that only its owner may use. A watcher that attaches gets the last output, and
 * then all new output. The bytes that it sends are typed on the console.
 * @param path of the socket. An old socket is replaced: the caller has made sure that no other process uses
 *   it.
 * @throws WaltError when the socket cannot be made.
 */
export function serveConsole(path: string, console: SerialConsole): ConsoleServer {
  const watchers = new Set<Bun.Socket<Watcher | undefined>>();
  // The umask decides the socket's permissions from the moment when it appears.
  const umask = process.umask(0o177);
  try {
    rmSync(path, { force: true });
    const server = Bun.listen<Watcher | undefined>({
      unix: path,
      socket: {
        open(socket) {
          socket.data = undefined;
          if (watchers.size >= WATCHERS) {
            socket.end(`[walt: ${WATCHERS} others are attached already, which is the limit]\r\n`);
            return;
          }
          watchers.add(socket);
          const out = new BoundedSocket(socket, BEHIND, gap);
          out.write(console.recent());
          socket.data = { out, unwatch: console.watch((bytes) => out.write(bytes)) };
        },
        data: (socket, bytes) => {
          if (socket.data !== undefined) console.type(bytes);
        },
        drain: (socket) => socket.data?.out.drain(),
        close(socket) {
          socket.data?.unwatch();
          watchers.delete(socket);
        },
        error() {}, // `close` is called after it
      },
    });
    return {
      stop: () => {
        for (const watcher of watchers) watcher.end();
        server.stop(true);
        rmSync(path, { force: true });
      },
    };
  } catch (error) {
    throw new WaltError(`cannot serve the node's console on ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    process.umask(umask);
  }
}
