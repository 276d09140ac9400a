/**
 * The supervisor's socket: where the boot stands, for commands, for the card's screen and for its watchdog.
 */

import type { DeviceStatus } from "../api/device-status.ts";
import { apiHandler, serve, serveText } from "../api/handler.ts";
import { type ApiServer, isListenedOn, listenApi } from "../api/listen.ts";
import { DEVICE } from "../api/routes.ts";
import { WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { asciiLine, screenLines } from "./screen.ts";

/** What the socket tells. */
export interface StatusSource {
  status(): DeviceStatus;
  /** Why the device would be better restarted; undefined while it is well. */
  illness(): string | undefined;
}

/**
 * Answer on a socket that only root may use.
 * @throws WaltError when another device's supervisor listens there already.
 */
export async function serveStatus(socket: string, source: StatusSource, log: Log): Promise<ApiServer> {
  if (await isListenedOn(socket)) {
    throw new WaltError(`\`walt device run\` runs already: it listens on ${socket}`, {
      hint: "Stop it first, or give this one another device.run and device.state (in another network namespace).",
    });
  }
  const handle = apiHandler(
    [
      serve(DEVICE.status, () => source.status()),
      serveText(DEVICE.screen, () => ({ lines: screenLines(source.status()) })),
      serveText(DEVICE.health, () => {
        const illness = source.illness();
        return illness === undefined ? { lines: ["ok"] } : { lines: [asciiLine(illness)], status: 503 };
      }),
    ],
    log,
  );
  return await listenApi(socket, undefined, handle);
}
