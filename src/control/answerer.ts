/** The device's end of the control channel: each session that the server opens carries out one order. */

import { messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Channel } from "../ssh/handshake/channel.ts";
import { type Request, ServerChannels } from "../ssh/handshake/connection.ts";
import { safeText } from "../text.ts";
import type { MessageInput, MessageOutput } from "../tunnel/pump-thread.ts";
import { CONTROL, Outlet } from "./bounds.ts";
import { AskerGone, type OrderStream } from "./order-stream.ts";
import { encodeRefusal, type Order, OrderRefused, parseOrder } from "./orders.ts";

/** Carries out an order. It is done when this resolves. @throws WaltError, OrderRefused, AskerGone. */
export type OrderHandler = (order: Order, stream: OrderStream) => Promise<void>;

export class Answerer implements MessageInput {
  readonly #channels: ServerChannels;
  readonly #outlet: Outlet;

  constructor(
    out: MessageOutput,
    readonly handle: OrderHandler,
    readonly log: Log,
  ) {
    const channels = new ServerChannels(
      (payload) => out.send(payload),
      () => this.#outlet.wake(),
      CONTROL,
    );
    this.#outlet = new Outlet(out, () => channels.produce());
    this.#channels = channels;
  }

  take(payload: Uint8Array): void {
    const event = this.#channels.take(payload);
    this.#outlet.wake(); // it may have opened a window
    if (event?.kind === "request") void this.#answer(event.channel, event.request);
    else if (event !== undefined)
      this.log.debug("refused to the server", { event: "detail", what: safeText(event.what) });
  }

  left(): void {
    this.#outlet.flush();
  }

  stop(): void {
    this.#channels.stop();
  }

  async #answer(channel: Channel, request: Request): Promise<void> {
    try {
      if (request.kind !== "exec") throw new OrderRefused("unknown-order", `walt has no ${request.kind}`);
      const order = parseOrder(request.command);
      if ("by" in order)
        this.log.info("an order from the server", { event: "order", order: order.order, by: order.by });
      await this.handle(order, streamOf(channel));
      channel.exit(0);
    } catch (error) {
      if (error instanceof AskerGone) return;
      void channel.write(encodeRefusal(this.#refusalOf(error)), true);
      channel.exit(1);
    }
  }

  #refusalOf(error: unknown): OrderRefused {
    if (error instanceof OrderRefused) return error;
    if (error instanceof WaltError) return new OrderRefused("failed", error.message, undefined, error.hint);
    this.log.error("an order failed", { event: "order-failed", error: messageOf(error) });
    return new OrderRefused("internal", "internal error; the board's log has it");
  }
}

function streamOf(channel: Channel): OrderStream {
  const gone = new AbortController();
  void channel.ended.then(() => gone.abort());
  return {
    gone: gone.signal,
    input: {
      async *[Symbol.asyncIterator]() {
        for (let bytes = await channel.read(); bytes !== undefined; bytes = await channel.read()) yield bytes;
      },
    },
    write: async (bytes) => {
      await channel.write(bytes);
      if (gone.signal.aborted) throw new AskerGone("the asker is gone");
    },
  };
}
