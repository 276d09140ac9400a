/** What both ends of the control channel keep to. */

import type { ChannelBounds } from "../ssh/handshake/connection.ts";
import type { MessageOutput } from "../tunnel/pump-thread.ts";
import { MESSAGE_DATA } from "../tunnel/send/channel-messages.ts";

/**
 * The server opens the channels. Their numbers begin far above that of the tunnel, which is on the same
 * connection. There is no limit to how many it opens one after the other: a device trusts its server.
 */
export const CONTROL: ChannelBounds = {
  first: 1000,
  packet: MESSAGE_DATA,
  channels: 16,
  opened: Number.POSITIVE_INFINITY,
  refusals: Number.POSITIVE_INFINITY,
};

/** Bytes that wait in the pump before the channels have to wait. */
const WAITING_MAX = 16_384;

/** Sends what channels have to say, as far as the pump takes it. */
export class Outlet {
  #scheduled = false;

  constructor(
    readonly out: MessageOutput,
    readonly produce: () => Uint8Array | undefined,
  ) {}

  /** Something may have to be sent: after whatever happens in this turn. */
  readonly wake = (): void => {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.flush();
    });
  };

  flush(): void {
    while (this.out.waiting < WAITING_MAX) {
      const message = this.produce();
      if (message === undefined) return;
      this.out.send(message);
    }
  }
}
