/** The supervisor's socket: where the boot stands, for commands, for the card's screen and for its watchdog. */

import { type ApiServer, listenApi } from "../api/listen.ts";
import type { DeviceStatus } from "../api/types.ts";
import { WaltError } from "../errors.ts";
import { asciiLine, screenLines } from "./screen.ts";

/** What the socket tells. */
export interface StatusSource {
  status(): DeviceStatus;
  /** Why the device would be better restarted; undefined while it is well. */
  illness(): string | undefined;
}

/**
 * Answer on a socket that only root may use: `GET /v1/status` with JSON, and for scripts, which parse none, with lines of
 * printable ASCII `GET /v1/screen` (screen.ts) and `GET /v1/health`: `ok`, or with status 503 the reason why not.
 * @throws WaltError when another device's supervisor answers there already.
 */
export async function serveStatus(socket: string, source: StatusSource): Promise<ApiServer> {
  if (await isAlive(socket)) {
    throw new WaltError(`\`walt device run\` runs already: it answers on ${socket}`, {
      hint: "Stop it first, or give this one another device.run and device.state (in another network namespace).",
    });
  }
  return await listenApi(socket, undefined, (request) => {
    const { pathname } = new URL(request.url);
    switch (request.method === "GET" ? pathname : "") {
      case "/v1/status":
        return Response.json(source.status());
      case "/v1/screen":
        return plainText(screenLines(source.status()));
      case "/v1/health":
        return health(source.illness());
      default:
        return Response.json({ error: `nothing at ${request.method} ${pathname}` }, { status: 404 });
    }
  });
}

function health(illness: string | undefined): Response {
  return illness === undefined ? plainText(["ok"]) : plainText([illness], 503);
}

function plainText(lines: readonly string[], status = 200): Response {
  const headers = { "content-type": "text/plain; charset=us-ascii" };
  return new Response(`${lines.map(asciiLine).join("\n")}\n`, { status, headers });
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
