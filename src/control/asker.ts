/** The server's end of the control channel of one device: an order is a session of its own. */

import type { Channel } from "../ssh/handshake/channel.ts";
import { ClientChannels, SessionLost, SessionRefused } from "../ssh/handshake/client-channels.ts";
import type { MessageInput, MessageOutput } from "../tunnel/pump-thread.ts";
import { CONTROL, Outlet } from "./bounds.ts";
import { encodeOrder, type Order, OrderRefused, parseRefusal } from "./orders.ts";

/** An order that is being carried out. */
export interface Answer {
  /** What the device writes, as it comes; undefined at the end. One call at a time. */
  read(): Promise<Uint8Array | undefined>;
  /** Write to the device. Resolves when little enough waits. */
  write(bytes: Uint8Array): Promise<void>;
  /** Nothing more is written. */
  endInput(): void;
  /** Leave: the order ends, if it goes on. */
  close(): void;
  /** Resolves when the order is done. @throws OrderRefused, SessionLost when the tunnel ended before. */
  readonly done: Promise<void>;
}

export class Asker implements MessageInput {
  readonly #channels: ClientChannels;
  readonly #outlet: Outlet;

  constructor(out: MessageOutput) {
    const channels = new ClientChannels(
      (payload) => out.send(payload),
      () => this.#outlet.wake(),
      CONTROL,
    );
    this.#outlet = new Outlet(out, () => channels.produce());
    this.#channels = channels;
  }

  /** Give an order. Resolves when the device has begun with it. @throws OrderRefused, SessionLost. */
  async give(order: Order): Promise<Answer> {
    try {
      return answerOf(await this.#channels.open(encodeOrder(order)));
    } catch (error) {
      if (!(error instanceof SessionRefused)) throw error;
      // A device of before the control channel refuses every session.
      throw new OrderRefused("unknown-order", `the device refuses it: ${error.message}`, "unknown");
    }
  }

  take(payload: Uint8Array): void {
    this.#channels.take(payload);
    this.#outlet.wake(); // it may have opened a window
  }

  left(): void {
    this.#outlet.flush();
  }

  stop(): void {
    this.#channels.stop();
  }
}

function answerOf(channel: Channel): Answer {
  const done = channel.ended.then(() => {
    if (channel.exitStatus === 0) return;
    if (channel.exitStatus === undefined) throw new SessionLost("the tunnel ended");
    throw parseRefusal(channel.stderr.toString("utf8"));
  });
  done.catch(() => {}); // nobody needs to wait for it
  return {
    read: () => channel.read(),
    write: (bytes) => channel.write(bytes),
    endInput: () => channel.endInput(),
    close: () => channel.close(),
    done,
  };
}
