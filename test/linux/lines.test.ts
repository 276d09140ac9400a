import { describe, expect, test } from "bun:test";
import { LineCutter } from "../../src/linux/lines.ts";

const bytes = (text: string): Buffer => Buffer.from(text);

describe("LineCutter", () => {
  test("gives lines as they are completed, however they are cut", () => {
    const cutter = new LineCutter(100);
    expect(cutter.push(bytes("one\ntw"))).toEqual(["one"]);
    expect(cutter.push(bytes("o"))).toEqual([]);
    expect(cutter.push(bytes("\n\nthree\n"))).toEqual(["two", "", "three"]);
  });

  test("a character cut in two is whole again", () => {
    const cutter = new LineCutter(100);
    const [first, second] = [bytes("é\n").subarray(0, 1), bytes("é\n").subarray(1)];
    expect([...cutter.push(first), ...cutter.push(second)]).toEqual(["é"]);
  });

  test("a line of exactly the bound passes, one byte more does not, ended or not", () => {
    expect(new LineCutter(4).push(bytes("abcd\n"))).toEqual(["abcd"]);
    expect(new LineCutter(4).push(bytes("abcd"))).toEqual([]);
    expect(() => new LineCutter(4).push(bytes("abcde\n"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("abcde"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("ééé"))).toThrow("a line is longer than 4 bytes");
    expect(() => new LineCutter(4).push(bytes("ok\nabcde"))).toThrow("a line is longer than 4 bytes");
  });

  test("what was too long is not kept: who goes on sending finds an empty line begun", () => {
    const cutter = new LineCutter(4);
    for (let i = 0; i < 3; i++) expect(() => cutter.push(bytes("too long"))).toThrow("longer than 4");
    expect(cutter.push(bytes("ok\n"))).toEqual(["ok"]);
  });
});
