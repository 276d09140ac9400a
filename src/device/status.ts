/**
 * The socket of `walt device run`: it tells where the boot stands, and shows that the run folder has an
 * owner.
 */

import type { DeviceStatus } from "../api/device-status.ts";
import { apiHandler, serve, serveText } from "../api/handler.ts";
import { type ApiServer, isListenedOn, listenApi } from "../api/listen.ts";
import { DEVICE } from "../api/routes.ts";
import { WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { screenText } from "./screen.ts";

/** The handler of all requests. */
export function statusHandler(status: () => DeviceStatus, log: Log): (request: Request) => Promise<Response> {
  return apiHandler(
    [
      serve(DEVICE.status, status),
      serveText(DEVICE.screen, () => screenText(status())),
      serveText(DEVICE.health, () => "well\n"),
    ],
    log,
  );
}

/**
 * Answer requests for the status on a socket that only root may use.
 * @throws WaltError when another device's supervisor listens there already.
 */
export async function serveStatus(socket: string, status: () => DeviceStatus, log: Log): Promise<ApiServer> {
  if (await isListenedOn(socket)) {
    throw new WaltError(`\`walt device run\` runs already: it listens on ${socket}`, {
      hint: "Stop it first, or give this one another device.run and device.state (in another network namespace).",
    });
  }
  return await listenApi(socket, undefined, statusHandler(status, log));
}
