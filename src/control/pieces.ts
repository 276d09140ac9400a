/**
 * Output that can be continued after a lost connection: pieces, each a line of JSON and the bytes behind it.
 * The line says how many bytes these are, and the place where the output goes on behind them. So words of
 * walt's own between two pieces change no place.
 */

import { WaltError } from "../errors.ts";
import { Fields } from "../parse.ts";
import { type OrderStream, WRITE_MAX } from "./order-stream.ts";

/** A place in output of which the last part is kept. */
export interface Place {
  /** Tells this output from that of other runs. */
  readonly ring: string;
  /** What came before it: bytes of a console, lines of a log. */
  readonly position: number;
}

export interface Piece {
  /** What is shown; perhaps nothing. */
  readonly bytes: Uint8Array;
  /** Where the output goes on. */
  readonly place: Place;
  /** Whether the asker may type; false of a log. */
  readonly writes: boolean;
}

/** Who is shown pieces. */
export interface PieceStream extends Pick<OrderStream, "gone"> {
  /** Resolves when he takes more. @throws AskerGone. */
  show(piece: Piece): Promise<void>;
}

/** The stream of an order, for pieces. */
export function inPieces(stream: OrderStream): OrderStream & PieceStream {
  return { ...stream, show: (piece) => stream.write(printPiece(piece)) };
}

/** Bytes of a piece's first line. */
const HEAD_MAX = 300;
/** Bytes that are shown by one piece. */
export const PIECE_MAX = WRITE_MAX - HEAD_MAX - 1;

/** The fields of a place. @throws WaltError. */
export const placeOf = (f: Fields): Place => ({
  ring: f.text("ring", 40, /^[0-9a-f]*$/),
  position: f.integer("position", 0, Number.MAX_SAFE_INTEGER),
});

/** A piece of at most PIECE_MAX bytes as it travels. */
export function printPiece({ bytes, place: { ring, position }, writes }: Piece): Uint8Array {
  const head = JSON.stringify({ ring, position, writes, bytes: bytes.length });
  return Buffer.concat([Buffer.from(`${head}\n`), bytes]);
}

/** Makes pieces of what comes. */
export class PieceReader {
  /** What came of the next piece. */
  #rest: Buffer = Buffer.alloc(0);

  /** @returns the pieces that are complete. @throws WaltError when it is something else. */
  take(bytes: Uint8Array): Piece[] {
    const pieces: Piece[] = [];
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end > HEAD_MAX || (end < 0 && this.#rest.length > HEAD_MAX))
        throw new WaltError("the device's answer is no output in pieces");
      if (end < 0) return pieces;
      const f = Fields.parse(this.#rest.toString("utf8", 0, end), "the device's answer", HEAD_MAX);
      const next = end + 1 + f.integer("bytes", 0, PIECE_MAX);
      if (this.#rest.length < next) return pieces;
      const shown = this.#rest.subarray(end + 1, next);
      pieces.push({ bytes: shown, place: placeOf(f), writes: f.boolean("writes") });
      this.#rest = this.#rest.subarray(next);
    }
  }
}
