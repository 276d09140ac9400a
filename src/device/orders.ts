/** What the device does when the server gives it an order over the control channel. */

import type { OrderHandler } from "../control/answerer.ts";
import type { OrderStream } from "../control/order-stream.ts";
import { type Order, OrderRefused } from "../control/orders.ts";

export function orderHandler(): OrderHandler {
  return async (order: Order, stream: OrderStream): Promise<void> => {
    switch (order.order) {
      case "echo":
        for await (const bytes of stream.input) await stream.write(bytes);
        return;
      default:
        throw new OrderRefused("unknown-order", `there is no \`${order.order}\` yet`);
    }
  };
}
