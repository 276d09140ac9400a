/**
 * The error of everything on the route to the server: connections to proxies, commands on the server, the
 * tunnel.
 */

import type { End } from "../../end.ts";
import { messageOf, WaltError } from "../../errors.ts";

/** Something on the route failed. `end.kind` decides what happens next. */
export class RouteFailure extends WaltError {
  constructor(
    /** The reason. Its text is the message of this error. */
    readonly end: End,
  ) {
    super(end.text);
  }
}

/** The end of an error: its own if it is a RouteFailure, otherwise one of the kind `failed`. */
export function endOf(error: unknown): End {
  return error instanceof RouteFailure ? error.end : { kind: "failed", text: messageOf(error) };
}
