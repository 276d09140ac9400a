/** The error of everything on the route to the server: proxies, commands on the server, the tunnel. */

import type { End } from "../../end.ts";
import { messageOf, WaltError } from "../../errors.ts";

export class RouteFailure extends WaltError {
  constructor(
    /** Why it ended; the error's message is its text. */
    readonly end: End,
  ) {
    super(end.text);
  }
}

/** The end that an error stands for. */
export function endOf(error: unknown): End {
  return error instanceof RouteFailure ? error.end : { kind: "failed", text: messageOf(error) };
}
