/** The main thread's end of a link's stream, joined to an SSH channel. */

import type { Duplex } from "node:stream";

export interface Join {
  readonly done: Promise<void>;
  destroy(): void;
}

export function joinChannel(_fd: number, _channel: Duplex, _cork?: { cork(): void; uncork(): void }): Join {
  throw new Error("being written");
}
