/**
 * Who may have how many orders under way at one device, which takes a bounded number: nobody gets more than he
 * leaves to the others.
 */

import { ApiError } from "../api/api-error.ts";
import { SESSIONS_MAX } from "../ssh/handshake/client-channels.ts";

/** Orders under way at one device. One session more is that of the reports. */
export const ORDERS_MAX = SESSIONS_MAX - 1;

export class OrderShares {
  /** Of each node the users of its orders, one for each order. */
  readonly #users = new Map<string, string[]>();

  /**
   * Take part of what a node's device may have under way.
   * @param orders how many.
   * @returns a function that gives it back. Again: does nothing.
   * @throws ApiError when the user has too many, or too few are left.
   */
  take(node: string, user: string, orders = 1): () => void {
    const users = this.#users.get(node) ?? [];
    const left = ORDERS_MAX - users.length - orders;
    const own = users.filter((one) => one === user).length;
    if (left < 0)
      throw new ApiError(
        "too-many",
        `${ORDERS_MAX} orders are under way at ${node}, as many as there may be`,
      );
    if (own > left)
      throw new ApiError(
        "too-many",
        `${own} orders of ${user} are under way at ${node}: the others that it takes are left to other users`,
        "End one of them, such as a console or a log that is followed.",
      );
    const mine = Array.from({ length: orders }, () => user);
    this.#users.set(node, [...users, ...mine]);
    return () => {
      const now = this.#users.get(node) ?? [];
      for (const one of mine.splice(0)) now.splice(now.indexOf(one), 1);
      if (now.length === 0) this.#users.delete(node);
    };
  }
}
