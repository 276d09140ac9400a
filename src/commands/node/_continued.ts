/** Output of a node's board that goes on where it was after the way to the board was lost. */

import { ApiError } from "../../api/api-error.ts";
import { type ApiClient, MisfitError } from "../../api/client.ts";
import { type Piece, PieceReader, type Place } from "../../control/pieces.ts";
import { WaltError } from "../../errors.ts";
import { sleep } from "../../linux/sleep.ts";
import { type GivenOrder, giveOrder, type OrderInput } from "./_orders.ts";

/** ms until a lost connection is tried again. */
const RETRY = 1000;

export interface ContinuedUse {
  /** The order. @param after the place behind what was shown; undefined at first. */
  order(after: Place | undefined): GivenOrder;
  /** Takes a piece. The next one waits until its promise resolves. */
  show(piece: Piece): Promise<void>;
  /** The device has begun, perhaps again. @param input sends what is typed. */
  begun?(input: OrderInput): void;
  /** The way is lost, and is tried again until it is there. */
  lost(): void;
  /** Whether to go on after a loss. */
  readonly goesOn: boolean;
  readonly signal: AbortSignal;
}

/** Uses the server's API; the way to the server may be a new one each time. */
export type Reach = (use: (api: ApiClient) => Promise<void>) => Promise<void>;

/**
 * Show the output until it ends, or `signal` is aborted.
 * @throws as `giveOrder` and `reach`, when it cannot begin, or waiting does not help.
 */
export async function showContinued(
  reach: Reach,
  node: string,
  { order, show, begun, lost, goesOn, signal }: ContinuedUse,
): Promise<void> {
  let place: Place | undefined;
  let isLost = false;
  while (!signal.aborted) {
    const reader = new PieceReader();
    const output = async (bytes: Uint8Array): Promise<void> => {
      for (const piece of reader.take(bytes)) {
        isLost = false;
        await show(piece);
        place = piece.place;
      }
    };
    const use = { output, signal, ...(begun === undefined ? {} : { begun }) };
    try {
      return await reach((api) => giveOrder(api, node, order(place), use));
    } catch (error) {
      if (signal.aborted) return;
      if (!goesOn || place === undefined || !mendsItself(error)) throw error;
    }
    if (!isLost) lost();
    isLost = true;
    await sleep(RETRY, signal);
  }
}

/** Whether to wait helps: the tunnel or the server is away. */
function mendsItself(error: unknown): boolean {
  if (error instanceof ApiError) return error.code === "node-down";
  return error instanceof WaltError && !(error instanceof MisfitError);
}
