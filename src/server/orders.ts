/** The orders that operators give to devices: each is a session, from the command that gave it to its end. */

import { randomBytes } from "node:crypto";
import { ApiError } from "../api/api-error.ts";
import type { Details } from "../api/journal.ts";
import { failedEvent, OUTPUT_MAX } from "../api/orders.ts";
import type { Answer } from "../control/asker.ts";
import { type Order, OrderRefused } from "../control/orders.ts";
import { SessionLost, TooManySessions } from "../ssh/handshake/client-channels.ts";
import { operatorOf } from "./operator.ts";
import { OrderShares } from "./order-shares.ts";

/** An order that changes something, or watches a node: it has the name of whoever gives it. */
export type SignedOrder = Extract<Order, { by: string }>;

interface Session {
  readonly answer: Answer;
  /** Whose it is, by the kernel's word: nobody else may send input. */
  readonly user: string;
  /** Resolves when the input that came last is on its way. */
  last: Promise<void>;
  /** No more input comes. */
  ended: boolean;
}

export class Orders {
  readonly #sessions = new Map<string, Session>();

  /**
   * @param give gives an order to the device of a node; see `Tunnels.give`.
   * @param record notes for the journal that a device has begun with an order.
   * @param shares bounds how many orders a user has at a device.
   */
  constructor(
    readonly give: (node: string, order: Order) => Promise<Answer>,
    readonly record: (node: string, order: SignedOrder) => void,
    readonly shares = new OrderShares(),
  ) {}

  /**
   * Give an order, and tell what becomes of it: its events (src/api/orders.ts).
   * @param claimed the order, with what the command says of who gives it.
   * @param user who gives it, by the kernel's word.
   * @param signal aborted when he is gone.
   * @throws ApiError when the device does not begin with it.
   */
  async begin(
    node: string,
    claimed: Order,
    user: string,
    signal: AbortSignal,
  ): Promise<AsyncGenerator<object>> {
    const order = "by" in claimed ? { ...claimed, by: operatorOf(user, claimed.by) } : claimed;
    const giveBack = this.shares.take(node, user);
    let answer: Answer;
    try {
      answer = await this.give(node, order);
    } catch (error) {
      giveBack();
      throw refusalOf(error, node, order);
    }
    const id = randomBytes(16).toString("hex");
    const leave = (): void => {
      giveBack();
      this.#sessions.delete(id);
      answer.close();
    };
    try {
      if ("by" in order) this.record(node, order);
    } catch (error) {
      leave(); // what cannot be in the journal is not done
      throw error;
    }
    this.#sessions.set(id, { answer, user, last: Promise.resolve(), ended: false });
    // The device may have nothing to say just now: this does not wait for the next event.
    signal.addEventListener("abort", leave);
    if (signal.aborted) leave();
    return this.#events(id, answer, node, order, leave);
  }

  /** Take input for an order, after all that came before. Resolves when there is room for more. @throws ApiError. */
  async input(id: string, user: string, bytes: Uint8Array, end: boolean): Promise<void> {
    const session = this.#sessions.get(id);
    if (session === undefined || session.user !== user)
      throw new ApiError("unknown-session", "the order has ended");
    if (session.ended) throw new ApiError("unknown-session", "the input of the order has ended");
    session.ended = end;
    const { answer, last } = session;
    session.last = last.then(() => answer.write(bytes));
    await session.last;
    if (end) answer.endInput();
  }

  async *#events(
    session: string,
    answer: Answer,
    node: string,
    order: Order,
    leave: () => void,
  ): AsyncGenerator<object> {
    try {
      yield { type: "begun", session };
      for (let bytes = await answer.read(); bytes !== undefined; bytes = await answer.read()) {
        for (let at = 0; at < bytes.length; at += OUTPUT_MAX) {
          const part = Buffer.from(bytes.subarray(at, at + OUTPUT_MAX));
          yield { type: "output", bytes: part.toString("base64") };
        }
      }
      await answer.done;
      yield { type: "done" };
    } catch (error) {
      const { code, message, hint } = refusalOf(error, node, order);
      yield failedEvent(code, message, hint);
    } finally {
      leave();
    }
  }
}

/** An error of an order in the words of the one who gave it. What it does not know, it throws. */
function refusalOf(error: unknown, node: string, { order }: Order): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof TooManySessions)
    return new ApiError("too-many", `${error.message} at the device of ${node}`);
  if (error instanceof SessionLost)
    return new ApiError("node-down", `the tunnel of ${node} went down before the answer was complete`);
  if (!(error instanceof OrderRefused)) throw error;
  if (error.code !== "unknown-order") return new ApiError("failed", error.message, error.hint);
  const version = error.version === "unknown" ? "a version of walt" : `walt ${error.version}`;
  return new ApiError("not-able", `the board of ${node} runs ${version} that has no \`${order}\``, UPDATE);
}

const UPDATE = "Write a card with this version of walt for the board, or update walt on it.";

/** An order in the journal. */
export function orderDetails(order: SignedOrder): Details {
  switch (order.order) {
    case "console":
      return { order: order.order, mode: order.mode };
    case "reboot":
      return { order: order.order, what: order.what };
    case "power":
      return { order: order.order, what: order.on ? "on" : "off" };
    case "set": {
      const { values, hostKeys } = order.changes;
      const changed = Object.entries(values).map(([key, value]) => `${key}=${value ?? ""}`);
      const keys = hostKeys?.length === 0 ? [] : ["host keys"];
      return { order: order.order, settings: [...changed, ...keys].join(", "), within: order.within };
    }
  }
}
