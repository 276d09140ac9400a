/** How commands give orders to nodes' devices: the answer as it comes, what is typed as it is typed. */

import { ApiError } from "../../api/api-error.ts";
import type { ApiClient } from "../../api/client.ts";
import { INPUT_MAX, type parseOrderRequest } from "../../api/orders.ts";
import { SERVER } from "../../api/routes.ts";

/** An order, as the API takes it. */
export type GivenOrder = ReturnType<typeof parseOrderRequest>["order"];

export interface OrderUse {
  /** Takes what the device writes. The next part waits until its promise resolves. */
  output(bytes: Uint8Array): Promise<void> | void;
  /** The device has begun. @param input sends what is typed. */
  begun?(input: OrderInput): void;
  readonly signal: AbortSignal;
}

/**
 * Give an order, and pass on its answer until it is done.
 * @throws ApiError when it is not done; WaltError as `ApiClient.stream`.
 */
export async function giveOrder(
  api: ApiClient,
  node: string,
  order: GivenOrder,
  { output, begun, signal }: OrderUse,
): Promise<void> {
  for await (const event of api.stream(SERVER.order, { node, order }, signal)) {
    switch (event.type) {
      case "begun":
        begun?.(new OrderInput(api, event.session));
        break;
      case "output":
        await output(event.bytes);
        break;
      case "failed":
        throw new ApiError(event.code, event.error, event.hint ?? undefined);
      case "done":
        return;
    }
  }
}

/** The answer of an order that says little, as text. @throws as `giveOrder`. */
export async function askOrder(
  api: ApiClient,
  node: string,
  order: GivenOrder,
  signal: AbortSignal,
): Promise<string> {
  const parts: Uint8Array[] = [];
  await giveOrder(api, node, order, { output: (bytes) => void parts.push(bytes), signal });
  return Buffer.concat(parts).toString("utf8");
}

/** What is typed, on its way: one request after the other, each with all that was typed meanwhile. */
export class OrderInput {
  #waiting = Buffer.alloc(0);
  #ends = false;
  #sending = false;
  /** Why nothing more can be sent. */
  failure: unknown;

  constructor(
    readonly api: ApiClient,
    readonly session: string,
  ) {}

  /** Resolves when all that was typed before is on its way too, or nothing can be sent any more. */
  async type(bytes: Uint8Array): Promise<void> {
    this.#waiting = Buffer.concat([this.#waiting, bytes]);
    await this.#send();
  }

  /** Nothing more is typed. */
  end(): void {
    this.#ends = true;
    void this.#send();
  }

  /** Bytes that were typed and not sent. */
  get waiting(): number {
    return this.#waiting.length;
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    try {
      let ended = false;
      while (this.failure === undefined && (this.#waiting.length > 0 || (this.#ends && !ended))) {
        const part = this.#waiting.subarray(0, INPUT_MAX);
        this.#waiting = this.#waiting.subarray(part.length);
        ended = this.#ends && this.#waiting.length === 0;
        const { session } = this;
        await this.api.call(SERVER.input, { session, bytes: part.toString("base64"), end: ended });
        if (ended) return;
      }
    } catch (error) {
      this.failure = error; // the stream of the answer tells the reason
    } finally {
      this.#sending = false;
    }
  }
}
