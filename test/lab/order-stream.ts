/** Both ends of an order's stream, in memory: the order's, and that of who has asked. */

import { AskerGone, type OrderStream, WRITE_MAX } from "../../src/control/order-stream.ts";
import type { Piece } from "../../src/control/pieces.ts";

/** An order's stream, and what its asker does. */
export class Asker implements OrderStream {
  readonly #gone = new AbortController();
  readonly gone = this.#gone.signal;
  /** All that was written to the asker and that it has taken. */
  seen = "";
  /** The pieces that he has taken. */
  readonly pieces: Piece[] = [];
  get last(): Piece | undefined {
    return this.pieces.at(-1);
  }

  #blocked: PromiseWithResolvers<void> | undefined;
  #typed: Uint8Array[] = [];
  #ended = false;
  #wake = (): void => {};
  readonly #decoder = new TextDecoder();

  /** As a console's viewer: words of a piece are seen as they are. */
  async show(piece: Piece): Promise<void> {
    await this.write(piece.bytes);
    this.pieces.push(piece);
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length > WRITE_MAX) throw new Error(`${bytes.length} bytes at once, more than ${WRITE_MAX}`);
    const copy = bytes.slice(); // the writer may use its buffer again
    await this.#blocked?.promise;
    if (this.gone.aborted) throw new AskerGone("the asker is gone");
    this.seen += this.#decoder.decode(copy, { stream: true });
  }

  get input(): AsyncIterable<Uint8Array> {
    return this.#input();
  }

  async *#input(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const bytes = this.#typed.shift();
      if (bytes !== undefined) yield bytes;
      else if (this.#ended || this.gone.aborted) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Send something. */
  type(text: string): void {
    this.#typed.push(new TextEncoder().encode(text));
    this.#wake();
  }

  /** Send nothing more. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Take nothing from now on. */
  block(): void {
    this.#blocked ??= Promise.withResolvers();
  }

  /** Take again what comes. */
  unblock(): void {
    this.#blocked?.resolve();
    this.#blocked = undefined;
  }

  /** Be gone. */
  leave(): void {
    this.#gone.abort();
    this.unblock();
    this.#wake();
  }
}
