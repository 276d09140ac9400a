/** `walt device status` and its socket: where the boot stands, for people and for the lock of the run folder. */

import { ApiClient } from "../api/client.ts";
import { type ApiServer, listenApi } from "../api/listen.ts";
import type { DeviceStatus } from "../api/types.ts";
import { WaltError } from "../errors.ts";

/** How a person starts what answers on the socket. */
export const DAEMON = "walt device run";

/**
 * Answer `GET /v1/status` on a socket that only root may use.
 * @throws WaltError when another device's supervisor answers there already.
 */
export async function serveStatus(socket: string, status: () => DeviceStatus): Promise<ApiServer> {
  if (await isAlive(socket)) {
    throw new WaltError(`\`${DAEMON}\` runs already: it answers on ${socket}`, {
      hint: "Stop it first, or give this one another device.run and device.state (in another network namespace).",
    });
  }
  return await listenApi(socket, undefined, (request) => {
    const { pathname } = new URL(request.url);
    if (request.method !== "GET" || pathname !== "/v1/status") {
      return Response.json({ error: `nothing at ${request.method} ${pathname}` }, { status: 404 });
    }
    return Response.json(status());
  });
}

/** Whether a device's supervisor answers on this socket. */
export async function isAlive(socket: string): Promise<boolean> {
  try {
    await new ApiClient(socket, DAEMON).call("GET", "/v1/status");
    return true;
  } catch {
    return false;
  }
}
