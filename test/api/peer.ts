/**
 * A peer that says whatever a test wants it to, on a UNIX socket: an older or newer daemon, or no daemon of
 * walt at all.
 */

import { createServer, type Server, type Socket } from "node:net";
import { API } from "../../src/api/routes.ts";
import { VERSION } from "../../src/version.ts";

/**
 * Answer each connection's first bytes with `answer` while `use` runs.
 * @param end end the connection after that.
 */
export async function answering<T>(
  socket: string,
  answer: string,
  use: () => Promise<T>,
  end = true,
): Promise<T> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((connection) => {
    sockets.add(connection);
    connection.on("error", () => {});
    connection.once("data", () => {
      connection.write(answer);
      if (end) connection.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  try {
    return await use();
  } finally {
    for (const one of sockets) one.destroy();
    server.close();
  }
}

/** Headers of a daemon of walt. */
export function waltHeaders(version = VERSION, api: number | string = API): string {
  return `walt-api: ${api}\r\nwalt-version: ${version}\r\n`;
}

/** An answer in HTTP. */
export function http(status: string, body: string, headers = waltHeaders()): string {
  return `HTTP/1.1 ${status}\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
}
