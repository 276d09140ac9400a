/** A node's console through the page's WebSocket. */

import type { ServerWebSocket } from "bun";
import type { ApiClient } from "../../api/client.ts";
import type { OrderOf } from "../../control/orders.ts";
import { messageOf, WaltError } from "../../errors.ts";
import type { ConsoleMode, ConsoleNotice } from "../../web/messages.ts";
import { operator } from "../_server.ts";
import { showContinued } from "../node/_continued.ts";
import type { OrderInput } from "../node/_orders.ts";

/** Bytes that may be typed before the console takes them; further ones are lost. */
const TYPED_AHEAD = 65_536;
/** Bytes that may wait for the browser before the console waits. */
const UNREAD = 262_144;

export class WebConsole {
  readonly #left = new AbortController();
  #input: OrderInput | undefined;
  #drained = Promise.withResolvers<void>();

  constructor(
    readonly socket: ServerWebSocket<unknown>,
    readonly node: string,
    readonly mode: ConsoleMode,
  ) {}

  /** Show the console until it ends or `leave` is called. Never rejects. */
  async show(api: ApiClient): Promise<void> {
    const { signal } = this.#left;
    let mode: OrderOf<"console">["mode"] = this.mode;
    try {
      await showContinued((use) => use(api), this.node, {
        order: (after) => ({ order: "console", mode, by: operator(), ...(after && { after }) }),
        show: async ({ bytes, writes }) => {
          const goesOn = writes ? "resume" : "watch";
          if (mode !== goesOn) this.#tell({ type: "begun", writes });
          mode = goesOn;
          if (bytes.length > 0) this.socket.sendBinary(bytes);
          while (this.socket.getBufferedAmount() > UNREAD && !signal.aborted) await this.#drained.promise;
        },
        begun: (input) => {
          this.#input = input;
        },
        lost: () => this.#tell({ type: "lost" }),
        goesOn: true,
        signal,
      });
      this.#tell({ type: "ended" });
    } catch (error) {
      const hint = error instanceof WaltError ? error.hint : undefined;
      this.#tell({ type: "ended", error: messageOf(error), ...(hint === undefined ? {} : { hint }) });
    }
    this.socket.close();
  }

  /** What is typed faster than the console takes it is lost, as on a real one. */
  type(bytes: Uint8Array): void {
    const room = this.#input !== undefined && this.#input.waiting + bytes.length <= TYPED_AHEAD;
    if (room && this.mode !== "watch") void this.#input?.type(bytes);
  }

  /** The browser has taken what waited for it. */
  drained(): void {
    this.#drained.resolve();
    this.#drained = Promise.withResolvers();
  }

  leave(): void {
    this.#left.abort();
    this.drained();
  }

  #tell(notice: ConsoleNotice): void {
    this.socket.sendText(JSON.stringify(notice));
  }
}
