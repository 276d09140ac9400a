/** What the device does when the server gives it an order over the control channel. */

import type { OrderHandler } from "../control/answerer.ts";
import type { OrderStream } from "../control/order-stream.ts";
import { type Order, type OrderOf, OrderRefused } from "../control/orders.ts";
import type { Trials } from "./boot/trial.ts";

/** What orders act on. */
export interface OrderParts {
  readonly trials: Trials;
}

/** ms that the server has to read the answer, before the tunnel that carries it is ended. */
const ANSWER_TIME = 2000;

export function orderHandler(parts: OrderParts): OrderHandler {
  return async (order: Order, stream: OrderStream): Promise<void> => {
    switch (order.order) {
      case "echo":
        for await (const bytes of stream.input) await stream.write(bytes);
        return;
      case "set":
        return await set(parts.trials, order, stream);
      default:
        throw new OrderRefused("unknown-order", `there is no \`${order.order}\` yet`);
    }
  };
}

async function set(trials: Trials, order: OrderOf<"set">, stream: OrderStream): Promise<void> {
  const { id, begin } = trials.prepare(order.changes, order.by, 1000 * order.within);
  await stream.write(new TextEncoder().encode(`${JSON.stringify({ id })}\n`));
  afterAnswer(stream, begin);
}

/** Do something that ends the tunnel, once the server has the answer. */
function afterAnswer({ gone }: OrderStream, what: () => void): void {
  const timer = setTimeout(what, ANSWER_TIME);
  gone.addEventListener("abort", () => {
    clearTimeout(timer);
    what();
  });
}
