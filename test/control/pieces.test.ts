/** Output in pieces: the same whatever it is cut into, and nothing else is taken for it. */

import { expect, test } from "bun:test";
import { PIECE_MAX, type Piece, PieceReader, printPiece } from "../../src/control/pieces.ts";

const PIECES: Piece[] = [
  { bytes: Buffer.from(""), place: { ring: "ab", position: 0 }, writes: true },
  { bytes: Buffer.from("a\nb\0{\n"), place: { ring: "ab", position: 6 }, writes: true },
  { bytes: Buffer.from("\r\n[walt: a note]\r\n"), place: { ring: "ab", position: 6 }, writes: false },
  { bytes: Buffer.alloc(PIECE_MAX, 65), place: { ring: "", position: 2 ** 53 - 1 }, writes: false },
];

test("pieces come back, however they were cut", () => {
  const sent = Buffer.concat(PIECES.map(printPiece));
  for (const size of [1, 7, 1000, sent.length]) {
    const reader = new PieceReader();
    const got: Piece[] = [];
    for (let at = 0; at < sent.length; at += size) got.push(...reader.take(sent.subarray(at, at + size)));
    expect(got.map((one) => ({ ...one, bytes: one.bytes.toString() }))).toEqual(
      PIECES.map((one) => ({ ...one, bytes: one.bytes.toString() })),
    );
  }
});

test.each([
  "Linux version 6.1\n",
  "x".repeat(1000),
  '{"ring":"ab","position":1,"writes":true,"bytes":1000000}\n',
  '{"ring":"ab","position":-1,"writes":true,"bytes":0}\n',
  '{"ring":"\u001b","position":1,"writes":true,"bytes":0}\n',
  '{"ring":"ab","position":1,"bytes":0}\n',
])("what is no piece is refused: %j", (text) => {
  expect(() => new PieceReader().take(Buffer.from(text))).toThrow("the device's answer");
});
