/** Lets programs on this machine attach to the node's serial console: plain bytes both ways over a UNIX socket. */

import { rmSync } from "node:fs";
import { messageOf, WaltError } from "../../errors.ts";
import { BoundedSocket } from "./bounded-socket.ts";
import type { SerialConsole } from "./ring.ts";

/** Bytes that wait for a watcher who does not read, beside what the socket itself holds. */
const BEHIND = 262_144;
/** Watchers at a time. */
export const WATCHERS = 16;

interface Watcher {
  out: BoundedSocket;
  leave(): void;
}

export interface ConsoleServer {
  stop(): void;
}

const gap = (skipped: number): Uint8Array =>
  new TextEncoder().encode(`\r\n[walt: ${skipped} bytes left out]\r\n`);

/**
 * Serve a console on a socket that only root may use. Who attaches gets what is kept, then what comes; what he sends is
 * typed. A socket file of before is replaced: the caller has made sure that its owner is gone.
 * @throws WaltError when the socket cannot be made.
 */
export function serveConsole(path: string, console: SerialConsole): ConsoleServer {
  const watchers = new Set<Bun.Socket<Watcher | undefined>>();
  // The umask decides the socket's mode at the moment it appears.
  const umask = process.umask(0o177);
  try {
    rmSync(path, { force: true });
    const server = Bun.listen<Watcher | undefined>({
      unix: path,
      socket: {
        open(socket) {
          socket.data = undefined;
          if (watchers.size >= WATCHERS) {
            socket.end(`[walt: ${WATCHERS} others are attached already]\r\n`);
            return;
          }
          watchers.add(socket);
          const out = new BoundedSocket(socket, BEHIND, gap);
          out.write(console.kept());
          socket.data = { out, leave: console.watch((bytes) => out.write(bytes)) };
        },
        data: (socket, bytes) => {
          if (socket.data !== undefined) console.type(bytes);
        },
        drain: (socket) => socket.data?.out.drain(),
        close(socket) {
          socket.data?.leave();
          watchers.delete(socket);
        },
        error() {}, // its close is told as well
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
