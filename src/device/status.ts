/** `walt device status` and its socket: where the boot stands, for people and for the lock of the run folder. */

import { type ApiServer, listenApi } from "../api/listen.ts";
import type { DeviceStatus } from "../api/types.ts";
import { WaltError } from "../errors.ts";

/**
 * Answer `GET /v1/status` on a socket that only root may use.
 * @throws WaltError when another device's supervisor answers there already.
 */
export async function serveStatus(socket: string, status: () => DeviceStatus): Promise<ApiServer> {
  if (await isAlive(socket)) {
    throw new WaltError(`\`walt device run\` runs already: it answers on ${socket}`, {
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

/** Whether somebody answers on this socket, or holds it without answering. */
export async function isAlive(socket: string): Promise<boolean> {
  try {
    await fetch("http://walt/v1/status", { unix: socket, signal: AbortSignal.timeout(2000) });
    return true;
  } catch (error) {
    return error instanceof Error && error.name === "TimeoutError";
  }
}
