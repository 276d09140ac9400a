/** A daemon's API: HTTP on a UNIX socket that only root, or a group, may use. */

import { chownSync, rmSync, statSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname } from "node:path";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import { makeFolders, readTextIfAny } from "../linux/files.ts";

/**
 * A monitor's stream may be idle for long. Bun heeds this for UNIX sockets too; only its types do not know.
 */
const NEVER_IDLE: object = { idleTimeout: 0 };

export interface ApiServer {
  stop(): Promise<void>;
}

/**
 * Listen on `socket`, mode 0660 (0600 without `group`). A socket left over by a daemon that died is replaced;
 * one that answers belongs to another daemon.
 * @throws WaltError when another daemon listens there, or the socket cannot be made.
 */
export async function listenApi(
  socket: string,
  group: string | undefined,
  handle: (request: Request) => Response | Promise<Response>,
): Promise<ApiServer> {
  if (Buffer.byteLength(socket) > 107)
    throw new WaltError(`${socket}: a UNIX socket's path has at most 107 bytes (unix(7))`);
  try {
    makeFolders(dirname(socket), 0o755);
    await refuseSecond(socket);
    if (statSync(socket, { throwIfNoEntry: false })?.isSocket()) rmSync(socket);
    const gid = group === undefined ? undefined : groupId(group);
    // The umask decides the socket's mode at the moment it appears: never a moment with more rights.
    const umask = process.umask(gid === undefined ? 0o177 : 0o117);
    try {
      const server = Bun.serve({
        unix: socket,
        maxRequestBodySize: 16_384,
        ...NEVER_IDLE,
        fetch: handle,
        error: (error) => Response.json({ error: `internal error: ${messageOf(error)}` }, { status: 500 }),
      });
      const stop = async (): Promise<void> => {
        await server.stop(true);
        rmSync(socket, { force: true });
      };
      try {
        // In the group's own service it is the group's already.
        if (gid !== undefined && statSync(socket).gid !== gid)
          chownSync(socket, process.getuid?.() ?? 0, gid);
      } catch (error) {
        await stop();
        throw error;
      }
      return { stop };
    } finally {
      process.umask(umask);
    }
  } catch (error) {
    if (error instanceof WaltError) throw error;
    throw new WaltError(`cannot listen on ${socket}: ${messageOf(error)}`, { cause: error });
  }
}

/**
 * To be called before a daemon touches anything that it would share with one that runs already.
 * @throws WaltError when a daemon answers on the socket.
 */
export async function refuseSecond(socket: string): Promise<void> {
  if (!(await isListenedOn(socket))) return;
  throw new WaltError(`${socket}: another daemon listens there already`, {
    hint: "Stop it first, or configure another socket.",
  });
}

/**
 * Whether a program listens on a socket. It need not answer, as it may be busy or stopped: the kernel
 * connects for it.
 */
export function isListenedOn(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = createConnection(socket);
    connection.once("connect", () => {
      connection.destroy();
      resolve(true);
    });
    // EAGAIN: so busy that its queue of connections is full (unix(7)).
    connection.once("error", (error) => resolve(codeOf(error) === "EAGAIN"));
  });
}

/** The id of a group in /etc/group, if it exists. */
export function groupId(name: string): number | undefined {
  for (const line of (readTextIfAny("/etc/group") ?? "").split("\n")) {
    const [group, , id] = line.split(":");
    if (group === name && id !== undefined && /^\d+$/.test(id)) return Number(id);
  }
  return undefined;
}
