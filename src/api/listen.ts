/** A daemon's API: HTTP on a UNIX socket that only root, or a group, may use. */

import { chownSync, rmSync, statSync } from "node:fs";
import { createConnection } from "node:net";
import { dirname } from "node:path";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import { makeFolders, readTextIfAny } from "../linux/files.ts";
import { HttpServer } from "../linux/http.ts";
import { userOf } from "../linux/peer-user.ts";
import { userName } from "../linux/user-name.ts";

/** Connections at once, and of one user at once. A monitor's stays for as long as the monitor runs. */
const MOST = 256;
const EACH = 128;

export interface ApiServer {
  stop(): Promise<void>;
}

/**
 * Listen on `socket`, mode 0660 (0600 without `group`). A socket left over by a daemon that died is replaced;
 * one that answers belongs to another daemon.
 * @param handle is told the name of the user who asks, of whom the kernel knows (SO_PEERCRED)
 * @param failed is told of errors while accepting
 * @throws WaltError when another daemon listens there, or the socket cannot be made.
 */
export async function listenApi(
  socket: string,
  group: string | undefined,
  handle: (request: Request, user: string) => Response | Promise<Response>,
  failed: (error: unknown) => void = () => {},
): Promise<ApiServer> {
  if (Buffer.byteLength(socket) > 107)
    throw new WaltError(`${socket}: a UNIX socket's path has at most 107 bytes (unix(7))`);
  try {
    makeFolders(dirname(socket), 0o755);
    await refuseSecond(socket);
    if (statSync(socket, { throwIfNoEntry: false })?.isSocket()) rmSync(socket);
    const gid = group === undefined ? undefined : groupId(group);
    const bind = (listen: () => void): void => {
      // The umask decides the socket's mode at the moment it appears: never a moment with more rights.
      const umask = process.umask(gid === undefined ? 0o177 : 0o117);
      try {
        listen();
      } finally {
        process.umask(umask);
      }
      // In the group's own service it is the group's already.
      const made = statSync(socket, { throwIfNoEntry: false });
      if (made !== undefined && gid !== undefined && made.gid !== gid) chownSync(socket, made.uid, gid);
    };
    const http = await HttpServer.start({
      ...{ place: { path: socket, bind }, most: MOST, each: EACH, idle: 0, maxBody: 16_384 },
      ...{ clientOf: userOf, failed },
      answer: async (request, client) => await handle(request, await userName(client)),
      onError: (error) => Response.json({ error: `internal error: ${messageOf(error)}` }, { status: 500 }),
    });
    return {
      stop: async () => {
        await http.stop();
        rmSync(socket, { force: true });
      },
    };
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
